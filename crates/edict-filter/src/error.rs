//! What can be wrong with a filter, an update, a sort or a projection.

use std::fmt;

/// Why a request was refused. The text is for the caller: it names the operator, the path and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    code: ErrorCode,
    message: String,
}

/// The stable name of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// There is no such operator.
    UnknownOperator,
    /// The operator exists and cannot stand there.
    MisplacedOperator,
    /// The operand is of the wrong type or out of range.
    BadOperand,
    /// The path of a field is malformed.
    BadPath,
    /// The regular expression is malformed or uses what a linear-time engine cannot do.
    BadRegex,
    /// The request is larger or deeper than the limits allow.
    TooComplex,
    /// Two parts of one update write the same place.
    ConflictingPaths,
    /// The update does not fit the document it is applied to.
    CannotApply,
}

impl ErrorCode {
    /// The code as it goes into a reply.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOperator => "unknown_operator",
            Self::MisplacedOperator => "misplaced_operator",
            Self::BadOperand => "bad_operand",
            Self::BadPath => "bad_path",
            Self::BadRegex => "bad_regex",
            Self::TooComplex => "too_complex",
            Self::ConflictingPaths => "conflicting_paths",
            Self::CannotApply => "cannot_apply",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FilterError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn operand(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadOperand, message)
    }

    pub(crate) fn too_complex(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::TooComplex, message)
    }

    pub(crate) fn cannot_apply(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::CannotApply, message)
    }

    pub(crate) fn unknown_operator(operator: &str, place: &str, known: &[&str]) -> Self {
        let nearest = known
            .iter()
            .map(|name| (strsim::damerau_levenshtein(operator, name), *name))
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, name)| format!("did you mean `{name}`?"))
            .unwrap_or_else(|| format!("known here: {}", known.join(" ")));
        Self::new(ErrorCode::UnknownOperator, format!("unknown operator `{operator}` {place}; {nearest}"))
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}
