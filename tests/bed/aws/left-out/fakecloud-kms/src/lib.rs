//! KMS, which the stand-in does not have.

/// The state of KMS. It has no values: nothing is encrypted with a customer's key.
#[derive(Clone, Copy, Debug)]
pub enum SharedKmsState {}

/// Encryption of layers.
pub mod api {
    use super::SharedKmsState;

    /// A failure of KMS. It has no values.
    #[derive(Debug)]
    pub enum KmsApiError {}

    impl std::fmt::Display for KmsApiError {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match *self {}
        }
    }

    /// The encryption of a layer, which cannot be asked for.
    pub fn encrypt_blob(
        state: &SharedKmsState,
        _account: &str,
        _region: &str,
        _key: &str,
        _plaintext: &[u8],
    ) -> Result<Vec<u8>, KmsApiError> {
        match *state {}
    }

    /// The decryption of a layer, which cannot be asked for.
    pub fn decrypt_blob(state: &SharedKmsState, _account: &str, _ciphertext: &[u8]) -> Result<Vec<u8>, KmsApiError> {
        match *state {}
    }
}
