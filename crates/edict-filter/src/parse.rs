//! From JSON to a filter, with errors that name the operator, the place and the nearest operator there is.

use serde_json::{Map, Value};

use crate::{
    ErrorCode, Filter, FilterError,
    filter::{Comparison, Expr, Field, Scalar, Test, Type, truncate},
    path::Path,
    regex::Pattern,
    value::{contains_nul, type_name, whole},
};

const MAX_DEPTH: usize = 32;
const MAX_CLAUSES: usize = 1_000;

const LOGICAL: [&str; 3] = ["$and", "$or", "$nor"];
const OPERATORS: [&str; 17] = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$not",
    "$exists",
    "$type",
    "$all",
    "$elemMatch",
    "$size",
    "$regex",
    "$options",
    "$mod",
];

impl Filter {
    /// Reads a filter: an object in MongoDB's query language.
    ///
    /// At most 1,000 clauses (each element of a list counts as one), 32 levels deep, regular expressions of 1,000
    /// bytes.
    ///
    /// # Errors
    /// Any [`ErrorCode`] but those of updates.
    pub fn parse(filter: &Value) -> Result<Self, FilterError> {
        Ok(Self { root: Parser::default().filter(filter, "at the top")? })
    }
}

/// A condition for the elements of an array, as `$elemMatch` and `$pull` have it.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Element(Expr<Test>),
    Object(Filter),
}

/// Reads the operand of `$pull`: operators test each element, an object is a filter for elements that are objects,
/// anything else is equality.
pub(crate) fn pull_condition(operand: &Value, place: &str) -> Result<Condition, FilterError> {
    let mut parser = Parser::default();
    Ok(match operand {
        Value::Object(fields) if !is_operators(fields) => {
            Condition::Object(Filter { root: parser.filter(operand, place)? })
        }
        _ => Condition::Element(parser.field_tests(operand, place)?),
    })
}

#[derive(Default)]
struct Parser {
    clauses: usize,
    depth: usize,
}

type Parsed<L> = Result<Expr<L>, FilterError>;

impl Parser {
    fn filter(&mut self, filter: &Value, place: &str) -> Parsed<Field> {
        let Value::Object(fields) = filter else {
            let found = type_name(filter);
            return Err(FilterError::operand(format!("the filter {place} must be an object, found {found}")));
        };
        self.enter()?;
        self.count(usize::from(fields.is_empty()))?;
        let parts = fields.iter().map(|(key, operand)| self.entry(key, operand)).collect::<Result<_, _>>()?;
        self.depth -= 1;
        Ok(all(parts))
    }

    fn entry(&mut self, key: &str, operand: &Value) -> Parsed<Field> {
        match key {
            "$and" => Ok(Expr::And(self.filters(key, operand)?)),
            "$or" => Ok(Expr::Or(self.filters(key, operand)?)),
            "$nor" => Ok(Expr::Not(Box::new(Expr::Or(self.filters(key, operand)?)))),
            _ if OPERATORS.contains(&key) => Err(FilterError::new(
                ErrorCode::MisplacedOperator,
                format!("`{key}` stands where a field is expected; write {{\"field\": {{\"{key}\": …}}}}"),
            )),
            _ if key.starts_with('$') => {
                Err(FilterError::unknown_operator(key, "where a field is expected", &LOGICAL))
            }
            _ => {
                let path = Path::parse(key)?;
                let tests = self.field_tests(operand, &format!("at `{path}`"))?;
                Ok(tests.map(&|test| Field { path: path.clone(), test }))
            }
        }
    }

    fn filters(&mut self, operator: &str, operand: &Value) -> Result<Vec<Expr<Field>>, FilterError> {
        let filters = operand.as_array().filter(|filters| !filters.is_empty());
        let filters =
            filters.ok_or_else(|| bad(operator, "at the top", "an array of at least one filter", operand))?;
        self.enter()?;
        let place = format!("in `{operator}`");
        let parts = filters.iter().map(|filter| self.filter(filter, &place)).collect();
        self.depth -= 1;
        parts
    }

    /// What stands beside a field's name: operators, or a value to be equal to.
    fn field_tests(&mut self, operand: &Value, place: &str) -> Parsed<Test> {
        match operand {
            Value::Object(operators) if is_operators(operators) => self.operators(operators, place),
            _ => self.equal(std::slice::from_ref(operand), place),
        }
    }

    fn operators(&mut self, operators: &Map<String, Value>, place: &str) -> Parsed<Test> {
        self.enter()?;
        let mut parts = Vec::new();
        for (operator, operand) in operators {
            if operator == "$options" {
                if !operators.contains_key("$regex") {
                    return Err(FilterError::operand(format!(
                        "`$options` {place} needs a `$regex` beside it"
                    )));
                }
                continue;
            }
            parts.push(match operator.as_str() {
                "$regex" => self.regex(operand, operators.get("$options"), place)?,
                _ => self.operator(operator, operand, place)?,
            });
        }
        self.depth -= 1;
        Ok(all(parts))
    }

    fn operator(&mut self, operator: &str, operand: &Value, place: &str) -> Parsed<Test> {
        match operator {
            "$eq" => self.equal(std::slice::from_ref(operand), place),
            "$ne" => Ok(not(self.equal(std::slice::from_ref(operand), place)?)),
            "$in" => self.equal(values(operator, operand, place)?, place),
            "$nin" => Ok(not(self.equal(values(operator, operand, place)?, place)?)),
            "$gt" => self.compare(Comparison::Greater, operator, operand, place),
            "$gte" => self.compare(Comparison::GreaterOrEqual, operator, operand, place),
            "$lt" => self.compare(Comparison::Less, operator, operand, place),
            "$lte" => self.compare(Comparison::LessOrEqual, operator, operand, place),
            "$not" => match operand {
                Value::Object(operators) if is_operators(operators) => {
                    Ok(not(self.operators(operators, place)?))
                }
                _ => Err(bad(operator, place, "an object of operators", operand)),
            },
            "$exists" => self.exists(operand, place),
            "$type" => self.types(operand, place),
            "$all" => self.all_of(values(operator, operand, place)?, place),
            "$elemMatch" => self.any_element(operand, place),
            "$size" => match operand.as_number().and_then(whole) {
                Some(size) if size >= 0 => self.leaf(Test::Size(size)),
                _ => Err(bad(operator, place, "a whole number from 0", operand)),
            },
            "$mod" => self.modulo(operand, place),
            _ if LOGICAL.contains(&operator) => Err(FilterError::new(
                ErrorCode::MisplacedOperator,
                format!(
                    "`{operator}` {place} combines whole filters and cannot stand inside a field; use `$not`"
                ),
            )),
            _ if operator.starts_with('$') => Err(FilterError::unknown_operator(operator, place, &OPERATORS)),
            _ => Err(FilterError::operand(format!(
                "{place}, `{}` stands beside operators; use either operators or a value to be equal to",
                operator.escape_debug()
            ))),
        }
    }

    fn equal(&mut self, operands: &[Value], place: &str) -> Parsed<Test> {
        for operand in operands {
            self.literal(operand, place)?;
        }
        Ok(Expr::Leaf(Test::In(operands.to_vec())))
    }

    /// Checks a value to be equal to; each value inside it is a clause.
    fn literal(&mut self, operand: &Value, place: &str) -> Result<(), FilterError> {
        if contains_nul(operand) {
            return Err(FilterError::operand(format!("the value {place} contains a NUL character")));
        }
        self.count(1)?;
        self.enter()?;
        match operand {
            Value::Array(items) => items.iter().try_for_each(|item| self.literal(item, place))?,
            Value::Object(fields) => fields.values().try_for_each(|field| self.literal(field, place))?,
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        operator: &str,
        operand: &Value,
        place: &str,
    ) -> Parsed<Test> {
        let scalar = match operand {
            Value::Number(number) => Scalar::Number(number.clone()),
            Value::Bool(bool) => Scalar::Bool(*bool),
            Value::String(text) if text.contains('\0') => {
                return Err(FilterError::operand(format!("the value {place} contains a NUL character")));
            }
            Value::String(text) => Scalar::Text(text.clone()),
            // Null is only ever equal to itself.
            Value::Null if comparison.holds(std::cmp::Ordering::Equal) => {
                return self.equal(&[Value::Null], place);
            }
            Value::Null => return self.leaf(Test::In(Vec::new())),
            _ => return Err(bad(operator, place, "a number, a string, a boolean or null", operand)),
        };
        self.leaf(Test::Compare(comparison, scalar))
    }

    fn exists(&mut self, operand: &Value, place: &str) -> Parsed<Test> {
        let exists = match operand {
            Value::Bool(exists) => *exists,
            Value::Number(number) => number.as_f64() != Some(0.0),
            _ => return Err(bad("$exists", place, "true or false", operand)),
        };
        let leaf = self.leaf(Test::Exists)?;
        Ok(if exists { leaf } else { not(leaf) })
    }

    fn types(&mut self, operand: &Value, place: &str) -> Parsed<Test> {
        let named = match operand {
            Value::Array(types) if !types.is_empty() => types.as_slice(),
            Value::Array(_) => return Err(bad("$type", place, "at least one type", operand)),
            _ => std::slice::from_ref(operand),
        };
        self.count(named.len())?;
        let types = named.iter().map(|name| type_from(name, place)).collect::<Result<_, _>>()?;
        Ok(Expr::Leaf(Test::Type(types)))
    }

    fn all_of(&mut self, operands: &[Value], place: &str) -> Parsed<Test> {
        if operands.is_empty() {
            return self.leaf(Test::In(Vec::new()));
        }
        let part = |operand: &Value| match operand {
            Value::Object(fields) if is_operators(fields) => match fields.get("$elemMatch") {
                Some(inner) if fields.len() == 1 => self.any_element(inner, place),
                _ => Err(bad("$all", place, "values or `$elemMatch` in its array", operand)),
            },
            _ => self.equal(std::slice::from_ref(operand), place),
        };
        Ok(Expr::And(operands.iter().map(part).collect::<Result<_, _>>()?))
    }

    fn any_element(&mut self, operand: &Value, place: &str) -> Parsed<Test> {
        let Value::Object(fields) = operand else {
            return Err(bad("$elemMatch", place, "an object", operand));
        };
        self.count(1)?;
        let by_value = is_operators(fields) && !fields.keys().any(|key| LOGICAL.contains(&key.as_str()));
        let place = format!("in `$elemMatch` {place}");
        Ok(Expr::Leaf(if by_value {
            Test::AnyElement(Box::new(self.operators(fields, &place)?))
        } else {
            Test::AnyObject(Box::new(self.filter(operand, &place)?))
        }))
    }

    fn regex(&mut self, pattern: &Value, options: Option<&Value>, place: &str) -> Parsed<Test> {
        let text = |name: &str, value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| bad(name, place, "a string", value))
        };
        let pattern = text("$regex", pattern)?;
        let options = options.map(|options| text("$options", options)).transpose()?.unwrap_or_default();
        self.leaf(Test::Regex(Pattern::new(&pattern, &options, place)?))
    }

    fn modulo(&mut self, operand: &Value, place: &str) -> Parsed<Test> {
        let number = |value: &Value| value.as_number().and_then(truncate);
        match operand.as_array().map(Vec::as_slice) {
            Some([divisor, remainder]) => match (number(divisor), number(remainder)) {
                (Some(divisor), Some(remainder)) if divisor != 0 => {
                    self.leaf(Test::Mod { divisor, remainder })
                }
                _ => Err(bad("$mod", place, "two whole numbers, the first not 0", operand)),
            },
            _ => Err(bad("$mod", place, "an array of divisor and remainder", operand)),
        }
    }

    fn leaf(&mut self, test: Test) -> Parsed<Test> {
        self.count(1)?;
        Ok(Expr::Leaf(test))
    }

    fn count(&mut self, clauses: usize) -> Result<(), FilterError> {
        self.clauses += clauses;
        if self.clauses > MAX_CLAUSES {
            return Err(FilterError::too_complex(format!(
                "the filter has more than {MAX_CLAUSES} clauses (each value of a list is one); ask in several requests"
            )));
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::too_complex(format!("the filter is more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }
}

fn is_operators(fields: &Map<String, Value>) -> bool {
    fields.keys().any(|key| key.starts_with('$'))
}

fn all<L>(mut parts: Vec<Expr<L>>) -> Expr<L> {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            Expr::And(parts)
        }
    }
}

fn not<L>(part: Expr<L>) -> Expr<L> {
    Expr::Not(Box::new(part))
}

fn values<'v>(operator: &str, operand: &'v Value, place: &str) -> Result<&'v [Value], FilterError> {
    let values = operand.as_array().ok_or_else(|| bad(operator, place, "an array", operand))?;
    let nested = |value: &Value| value.as_object().is_some_and(is_operators);
    if operator != "$all" && values.iter().any(nested) {
        return Err(FilterError::new(
            ErrorCode::MisplacedOperator,
            format!("`{operator}` {place} takes values, not operators; combine filters with `$or`"),
        ));
    }
    Ok(values)
}

fn type_from(name: &Value, place: &str) -> Result<Type, FilterError> {
    let known = match (name.as_str(), name.as_number().and_then(whole)) {
        (Some("double"), _) | (_, Some(1)) => Some(Type::Double),
        (Some("string"), _) | (_, Some(2)) => Some(Type::Text),
        (Some("object"), _) | (_, Some(3)) => Some(Type::Object),
        (Some("array"), _) | (_, Some(4)) => Some(Type::Array),
        (Some("bool"), _) | (_, Some(8)) => Some(Type::Bool),
        (Some("null"), _) | (_, Some(10)) => Some(Type::Null),
        (Some("int"), _) | (_, Some(16)) => Some(Type::Int),
        (Some("long"), _) | (_, Some(18)) => Some(Type::Long),
        (Some("number"), _) => Some(Type::Number),
        _ => None,
    };
    let takes = "one of double, string, object, array, bool, null, int, long, number";
    known.ok_or_else(|| bad("$type", place, takes, name))
}

/// `wants` is what the operator takes.
fn bad(operator: &str, place: &str, wants: &str, found: &Value) -> FilterError {
    let mut shown: String = found.to_string().chars().take(60).collect();
    if shown.len() < found.to_string().len() {
        shown.push('…');
    }
    FilterError::operand(format!("`{operator}` {place} takes {wants}, found `{shown}`"))
}
