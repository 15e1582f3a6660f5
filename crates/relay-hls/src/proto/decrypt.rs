//! AES-128 in CBC mode over a whole segment, padded as PKCS #7 (RFC 8216 §4.3.2.4, §5.2), as the bytes come.

use aes::{
    Aes128,
    cipher::{Array, BlockModeDecrypt as _, KeyIvInit as _},
};
use bytes::Bytes;

const BLOCK: usize = 16;

/// Decrypts one segment.
#[derive(Debug)]
pub(crate) struct Decryptor {
    cipher: cbc::Decryptor<Aes128>,
    /// Less than a block of ciphertext.
    carry: Vec<u8>,
    /// The last block decrypted: it holds the padding, if none follows.
    held: Option<[u8; BLOCK]>,
}

impl Decryptor {
    pub(crate) fn new(key: &[u8; BLOCK], iv: &[u8; BLOCK]) -> Self {
        Self { cipher: cbc::Decryptor::new(key.into(), iv.into()), carry: Vec::new(), held: None }
    }

    /// The plain bytes that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Bytes {
        let mut plain = Vec::with_capacity(bytes.len() + 2 * BLOCK);
        plain.extend(self.held.iter().flatten());
        let decrypted = plain.len();
        plain.append(&mut self.carry);
        plain.extend_from_slice(bytes);
        let whole = (plain.len() - decrypted) / BLOCK * BLOCK + decrypted;
        self.carry.extend_from_slice(plain.get(whole..).unwrap_or_default());
        plain.truncate(whole);
        let (blocks, _) = Array::slice_as_chunks_mut(plain.get_mut(decrypted..).unwrap_or_default());
        self.cipher.decrypt_blocks(blocks);
        self.held = plain.last_chunk().copied();
        plain.truncate(plain.len().saturating_sub(BLOCK));
        plain.into()
    }

    /// The last plain bytes; `None` if the padding is wrong: another key, or the end is missing.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        let block = self.held.take().filter(|_| self.carry.is_empty())?;
        let padding = usize::from(*block.last()?);
        let plain = block.get(..BLOCK.checked_sub(padding)?)?;
        let is_padding = block.iter().skip(plain.len()).all(|byte| usize::from(*byte) == padding);
        (padding > 0 && is_padding).then(|| Bytes::copy_from_slice(plain))
    }
}

/// The initialisation vector of a segment whose key has none: its media sequence number (RFC 8216 §5.2).
pub(crate) fn iv_of(sequence: u64) -> [u8; BLOCK] {
    u128::from(sequence).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockModeEncrypt as _, block_padding::Pkcs7};
    use proptest::prelude::*;

    use super::*;

    fn encrypt(plain: &[u8], key: [u8; 16], iv: [u8; 16]) -> Vec<u8> {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + BLOCK, 0);
        let cipher = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into());
        cipher.encrypt_padded::<Pkcs7>(&mut buffer, plain.len()).unwrap().to_vec()
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same(
            plain in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(1_usize..40, 0..20),
            sequence: u64,
        ) {
            let encrypted = encrypt(&plain, [7; 16], iv_of(sequence));
            let mut decryptor = Decryptor::new(&[7; 16], &iv_of(sequence));
            let (mut rest, mut found) = (&encrypted[..], Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                found.extend_from_slice(&decryptor.push(piece));
                rest = after;
            }
            found.extend_from_slice(&decryptor.push(rest));
            found.extend_from_slice(&decryptor.finish().unwrap());
            prop_assert_eq!(found, plain);
        }

        #[test]
        fn any_bytes_decrypt_to_something(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut decryptor = Decryptor::new(&[1; 16], &[2; 16]);
            let plain = decryptor.push(&bytes).len() + decryptor.finish().map_or(0, |rest| rest.len());
            prop_assert!(plain <= bytes.len());
        }
    }
}
