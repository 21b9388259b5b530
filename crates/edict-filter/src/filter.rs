//! The filter as a tree, and what it means for a document in memory.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::{
    path::{self, Path},
    regex::Pattern,
    value::{compare, equal, whole},
};

/// A parsed filter.
#[derive(Debug, Clone)]
pub struct Filter {
    pub(crate) root: Expr<Field>,
}

/// Logic over leaves: fields of a document, or tests of one value.
#[derive(Debug, Clone)]
pub(crate) enum Expr<L> {
    And(Vec<Expr<L>>),
    Or(Vec<Expr<L>>),
    Not(Box<Expr<L>>),
    Leaf(L),
}

/// A test of what a path leads to.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) path: Path,
    pub(crate) test: Test,
}

/// A test of one value. None of them is a negation: those stand above the field, so that they negate the whole.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// Equal to one of these; null also stands for a missing field.
    In(Vec<Value>),
    Compare(Comparison, Scalar),
    Exists,
    Type(Vec<Type>),
    Size(i64),
    Mod {
        divisor: i64,
        remainder: i64,
    },
    Regex(Pattern),
    /// An array with an element that passes.
    AnyElement(Box<Expr<Test>>),
    /// An array with an object in it that the filter matches.
    AnyObject(Box<Expr<Field>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// What values can be compared with: only with their like.
#[derive(Debug, Clone)]
pub(crate) enum Scalar {
    Number(Number),
    Text(String),
    Bool(bool),
}

/// The types of `$type`. The kinds of number are told apart by value, because JSON text does not keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Bool,
    Number,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits that 32 don't hold.
    Long,
    /// Any other number.
    Double,
    Text,
    Array,
    Object,
}

impl Filter {
    /// Whether the document passes.
    pub fn matches(&self, document: &Value) -> bool {
        self.root.eval(&|field| field.matches(document))
    }
}

impl<L> Expr<L> {
    pub(crate) fn eval(&self, leaf: &impl Fn(&L) -> bool) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.eval(leaf)),
            Self::Or(parts) => parts.iter().any(|part| part.eval(leaf)),
            Self::Not(part) => !part.eval(leaf),
            Self::Leaf(test) => leaf(test),
        }
    }

    pub(crate) fn map<M>(self, leaf: &impl Fn(L) -> M) -> Expr<M> {
        let all = |parts: Vec<Self>| parts.into_iter().map(|part| part.map(leaf)).collect();
        match self {
            Self::And(parts) => Expr::And(all(parts)),
            Self::Or(parts) => Expr::Or(all(parts)),
            Self::Not(part) => Expr::Not(Box::new(part.map(leaf))),
            Self::Leaf(test) => Expr::Leaf(leaf(test)),
        }
    }
}

impl Expr<Test> {
    /// Whether one value passes, as an element of an array does.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.eval(&|test| test.accepts(Some(value)))
    }
}

impl Field {
    fn matches(&self, document: &Value) -> bool {
        path::any(document, self.path.segments(), self.test.by_element(), &|value| self.test.accepts(value))
    }
}

impl Test {
    /// Whether the elements of an array are tested as well as the array itself.
    pub(crate) fn by_element(&self) -> bool {
        !matches!(self, Self::Size(_) | Self::AnyElement(_) | Self::AnyObject(_))
    }

    /// Whether a missing field passes.
    pub(crate) fn accepts_missing(&self) -> bool {
        matches!(self, Self::In(operands) if operands.iter().any(Value::is_null))
    }

    fn accepts(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else { return self.accepts_missing() };
        match (self, value) {
            (Self::In(operands), _) => operands.iter().any(|operand| equal(operand, value)),
            (Self::Compare(comparison, operand), _) => {
                operand.order_of(value).is_some_and(|order| comparison.holds(order))
            }
            (Self::Exists, _) => true,
            (Self::Type(types), _) => types.iter().any(|kind| kind.describes(value)),
            (Self::Size(size), Value::Array(items)) => usize::try_from(*size) == Ok(items.len()),
            (Self::Mod { divisor, remainder }, Value::Number(number)) => {
                truncate(number).is_some_and(|number| number.wrapping_rem(*divisor) == *remainder)
            }
            (Self::Regex(pattern), Value::String(text)) => pattern.is_match(text),
            (Self::AnyElement(tests), Value::Array(items)) => items.iter().any(|item| tests.accepts(item)),
            (Self::AnyObject(filter), Value::Array(items)) => {
                items.iter().any(|item| item.is_object() && filter.eval(&|field| field.matches(item)))
            }
            _ => false,
        }
    }
}

impl Comparison {
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }

    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

impl Scalar {
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::Bool(bool) => Value::Bool(*bool),
        }
    }

    /// How a value stands to this one, if they are of one type.
    fn order_of(&self, value: &Value) -> Option<Ordering> {
        match (value, self) {
            (Value::Number(_), Self::Number(_))
            | (Value::String(_), Self::Text(_))
            | (Value::Bool(_), Self::Bool(_)) => Some(compare(value, &self.to_value())),
            _ => None,
        }
    }
}

impl Type {
    fn describes(self, value: &Value) -> bool {
        match value {
            Value::Null => self == Self::Null,
            Value::Bool(_) => self == Self::Bool,
            Value::String(_) => self == Self::Text,
            Value::Array(_) => self == Self::Array,
            Value::Object(_) => self == Self::Object,
            Value::Number(number) => {
                let kind = match whole(number) {
                    Some(number) if i32::try_from(number).is_ok() => Self::Int,
                    Some(_) => Self::Long,
                    None => Self::Double,
                };
                self == Self::Number || self == kind
            }
        }
    }
}

/// The number without its fraction, if 64 bits hold it.
pub(crate) fn truncate(number: &Number) -> Option<i64> {
    let float = || number.as_f64().filter(|_| number.is_f64());
    whole(number).or_else(|| whole(&Number::from_f64(float()?.trunc())?))
}
