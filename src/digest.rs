//! Short digests of texts, by which statuses and tokens tell one state from another.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of the SHA-256 of a text in hexadecimal: short enough for a person to copy. It stands in statuses, so it
/// must not change with a new version of the operator.
pub(crate) fn short(text: &str) -> String {
    let mut digest = String::with_capacity(32);
    for byte in Sha256::digest(text).iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_beginning_of_the_sha_256() {
        assert_eq!(short(""), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(short("abc"), "ba7816bf8f01cfea414140de5dae2223");
    }
}
