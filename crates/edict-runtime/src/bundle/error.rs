//! Why a bundle is refused.

use std::io;

use crate::environment::RequirementsError;

/// Why a bundle is refused. Each kind has a stable [`code`](BundleError::code).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes are no archive of a known kind, nor source text.
    #[error("the code is neither a .zip, .tar.xz or .tar.gz archive nor Python source text in UTF-8")]
    UnknownFormat,
    /// The archive ends too early.
    #[error("the archive is cut short ({detail}); upload or download it again")]
    Truncated {
        /// What was being read.
        detail: String,
    },
    /// The archive is damaged: a checksum or a header is wrong.
    #[error("the archive is damaged ({detail}); make it again")]
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// A size limit is exceeded.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What is too large: the archive, its unpacked content, one entry.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// There are too many files and folders.
    #[error("the archive holds more than {limit} files and folders")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// A name leads out of the folder it is unpacked into, or cannot be a file name.
    #[error("entry `{entry}` has an unsafe name: {reason}")]
    UnsafePath {
        /// The entry's name, control characters escaped.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry is a symbolic or hard link.
    #[error("entry `{entry}` is a link; links are not allowed, put the file itself into the archive")]
    UnsafeLink {
        /// The entry's name.
        entry: String,
    },
    /// An entry is a device, a pipe or something else that is neither file nor folder.
    #[error("entry `{entry}` is neither a file nor a folder")]
    UnsafeEntry {
        /// The entry's name.
        entry: String,
    },
    /// A name occurs twice, or as a file and as a folder.
    #[error("entry `{entry}` occurs twice, or both as a file and as a folder")]
    DuplicateEntry {
        /// The entry's name.
        entry: String,
    },
    /// An entry is encrypted.
    #[error("entry `{entry}` is encrypted; make the archive without a password")]
    Encrypted {
        /// The entry's name.
        entry: String,
    },
    /// An entry uses a feature that is not read here.
    #[error(
        "entry `{entry}` uses {feature}, which is not supported; make the archive with plain `zip` or `tar`"
    )]
    Unsupported {
        /// The entry's name.
        entry: String,
        /// The feature.
        feature: String,
    },
    /// There is no `code/function.py`.
    #[error("the archive holds no `code/function.py`{hint}")]
    NoFunction {
        /// Empty, or where one was found instead.
        hint: String,
    },
    /// A file that must be UTF-8 text is not.
    #[error("`{file}` {reason}; save it as UTF-8")]
    BadEncoding {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `requirements.txt` cannot be used.
    #[error("`requirements.txt`: {0}")]
    Requirements(#[from] RequirementsError),
}

impl BundleError {
    /// The stable code that goes into replies, e.g. `bundle_too_large`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat => "bundle_unknown_format",
            Self::Truncated { .. } => "bundle_truncated",
            Self::Corrupt { .. } => "bundle_corrupt",
            Self::TooLarge { .. } => "bundle_too_large",
            Self::TooManyFiles { .. } => "bundle_too_many_files",
            Self::UnsafePath { .. } => "bundle_unsafe_path",
            Self::UnsafeLink { .. } => "bundle_unsafe_link",
            Self::UnsafeEntry { .. } => "bundle_unsafe_entry",
            Self::DuplicateEntry { .. } => "bundle_duplicate_entry",
            Self::Encrypted { .. } => "bundle_encrypted",
            Self::Unsupported { .. } => "bundle_unsupported",
            Self::NoFunction { .. } => "bundle_no_function",
            Self::BadEncoding { .. } => "bundle_bad_encoding",
            Self::Requirements(_) => "bundle_bad_requirements",
        }
    }

    /// What a failed read of archive content means.
    pub(super) fn from_read(error: io::Error) -> Self {
        let kind = error.kind();
        let detail = error.to_string();
        match error.downcast::<BundleError>() {
            Ok(ours) => ours,
            Err(_) if kind == io::ErrorKind::UnexpectedEof => Self::Truncated { detail },
            Err(_) => Self::Corrupt { detail },
        }
    }

    pub(super) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt { detail: detail.into() }
    }
}
