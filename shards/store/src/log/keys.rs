//! Encryption at rest: from what was configured to the key of one segment, and sealing with it.
//!
//! ```text
//!  configured text ─HKDF─► root key ─┬─HKDF(uid, segment, incarnation, cipher, salt)─► segment key
//!                                    ├─HKDF─► mark: names the key without telling it
//!                                    └─HKDF(uid)─► key of checkpoints
//! ```
//!
//! A nonce is `epoch u32, offset u64` and never used twice with a key: offsets only rise within an
//! epoch, and what begins at an offset anew, after a recovery, has another epoch.

use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::{hkdf, hmac};

use super::header::{Header, Identity};
use super::record::{u32_at, u64_at};

/// Bytes that sealing adds.
pub(super) const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
/// Separates this use of a configured text from every other.
const DOMAIN: &[u8] = b"shearwater store 1";

/// How bytes are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// ChaCha20-Poly1305.
    #[default]
    ChaCha20Poly1305,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Cipher {
    /// As the header of a segment has it.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// A configured key. Shown, it tells its mark only.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey {
    root: [u8; KEY_BYTES],
    mark: u64,
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreKey({:016x})", self.mark)
    }
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out` from a secret. It fails for lengths that are never asked for only.
fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = prk.expand(info, Len(out.len())).and_then(|okm| okm.fill(out));
    debug_assert!(filled.is_ok());
}

impl StoreKey {
    /// The key of a configured text, which must not be empty.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let (mut root, mut mark) = ([0; KEY_BYTES], [0; 8]);
        derive(DOMAIN, secret, &[b"root"], &mut root);
        derive(DOMAIN, &root, &[b"mark"], &mut mark);
        // Zero says that there is none.
        Self { root, mark: u64::from_le_bytes(mark).max(1) }
    }

    fn seal_key(&self, cipher: Cipher, salt: &[u8], info: &[&[u8]]) -> Option<LessSafeKey> {
        let mut key = [0; KEY_BYTES];
        derive(salt, &self.root, info, &mut key);
        UnboundKey::new(cipher.algorithm(), &key).ok().map(LessSafeKey::new)
    }
}

/// What a log is told about encryption.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// For what is written from now on.
    pub cipher: Cipher,
    /// The key for it.
    pub key: StoreKey,
    /// The key before, with which older segments may be sealed.
    pub prev_key: Option<StoreKey>,
    /// A random number, another one at each start: two copies of a store that go on apart do not
    /// use the same nonces.
    pub entropy: u64,
}

impl Encryption {
    fn key_of(&self, mark: u64) -> Option<&StoreKey> {
        [Some(&self.key), self.prev_key.as_ref()].into_iter().flatten().find(|key| key.mark == mark)
    }

    /// True when new records may be sealed as this header says.
    pub(super) fn is_current(&self, header: &Header) -> bool {
        header.cipher == self.cipher.number() && header.key_mark == self.key.mark
    }

    /// Enters cipher, key and salt into the header of a new segment. The salt can be found again
    /// without the header, should that be lost.
    pub(super) fn head(&self, header: &mut Header) {
        header.cipher = self.cipher.number();
        header.key_mark = self.key.mark;
        let Identity { uid, segment, incarnation } = header.identity;
        let (segment, incarnation) = (segment.to_le_bytes(), incarnation.to_le_bytes());
        let info: [&[u8]; 4] = [b"salt", &uid.to_le_bytes(), &segment, &incarnation];
        derive(DOMAIN, &self.key.root, &info, &mut header.salt);
    }

    /// The epoch of a new segment; `count` of those made in this life.
    pub(super) const fn first_epoch(&self, count: u32) -> u32 {
        ((self.entropy as u32) & 0x3FFF_FFFF).wrapping_add(count)
    }

    /// By how much an epoch rises at a recovery.
    pub(super) const fn epoch_step(&self) -> u32 {
        1 + ((self.entropy >> 32) as u32 & 0xFFF)
    }
}

/// The key of one segment.
#[derive(Debug)]
pub(super) struct SegmentKey(LessSafeKey);

fn nonce(epoch: u32, offset: u32) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..4].copy_from_slice(&epoch.to_le_bytes());
    bytes[4..].copy_from_slice(&u64::from(offset).to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl SegmentKey {
    /// The key for a header; `Ok(None)` for a segment that is not encrypted, an error when its
    /// key is not there.
    pub(super) fn of(
        header: &Header,
        encryption: Option<&Encryption>,
    ) -> Result<Option<Arc<Self>>, WrongKey> {
        if header.cipher == 0 {
            return Ok(None);
        }
        let cipher = Cipher::from_number(header.cipher).ok_or(WrongKey)?;
        let key = encryption.and_then(|e| e.key_of(header.key_mark)).ok_or(WrongKey)?;
        let Identity { uid, segment, incarnation } = header.identity;
        let (segment, incarnation) = (segment.to_le_bytes(), incarnation.to_le_bytes());
        let uid = uid.to_le_bytes();
        let info: [&[u8]; 5] = [b"segment", &uid, &segment, &incarnation, &[header.cipher]];
        let sealing = key.seal_key(cipher, &header.salt, &info).ok_or(WrongKey)?;
        Ok(Some(Arc::new(Self(sealing))))
    }

    /// Seals `out[from..]` in its place and adds the tag; `aad` are the bytes of `out` from there
    /// to `from`.
    pub(super) fn seal(&self, out: &mut Vec<u8>, aad: usize, from: usize, epoch: u32, offset: u32) {
        let (before, text) = out.split_at_mut(from);
        let aad = Aad::from(before.get(aad..).unwrap_or_default());
        let sealed = self.0.seal_in_place_separate_tag(nonce(epoch, offset), aad, text);
        match sealed {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            // Only texts of more than 64 GiB are refused. Nothing may be left readable.
            Err(_) => {
                out.truncate(from);
                debug_assert!(false);
            }
        }
    }

    /// Opens `sealed[from..]` in its place and cuts off the tag; false when it does not hold.
    pub(super) fn open(
        &self,
        sealed: &mut Vec<u8>,
        from: usize,
        aad: &[u8],
        (epoch, offset): (u32, u32),
    ) -> bool {
        let Some(text) = sealed.get_mut(from..) else { return false };
        let opened = self.0.open_in_place(nonce(epoch, offset), Aad::from(aad), text);
        let Ok(len) = opened.map(|text| text.len()) else { return false };
        sealed.truncate(from + len);
        true
    }
}

/// The key that bytes were sealed with is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongKey;

const SEALED_MAGIC: &[u8; 8] = b"SHWRSEAL";

/// Seals a checkpoint. Its nonce is a keyed hash of what it says: equal only when that is equal.
pub(super) fn seal_checkpoint(encryption: &Encryption, uid: u64, plain: Vec<u8>) -> Vec<u8> {
    let Encryption { cipher, key, .. } = encryption;
    let Some((sealing, hash)) = checkpoint_keys(key, *cipher, uid) else { return Vec::new() };
    let digest = hmac::sign(&hash, &plain);
    let mut bytes = [0; NONCE_LEN];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(place, byte)| *place = *byte);
    let mut head = SEALED_MAGIC.to_vec();
    head.extend_from_slice(&uid.to_le_bytes());
    head.extend_from_slice(&key.mark.to_le_bytes());
    head.extend_from_slice(&u32::from(cipher.number()).to_le_bytes());
    head.extend_from_slice(&bytes);
    let mut text = plain;
    let nonce = Nonce::assume_unique_for_key(bytes);
    match sealing.seal_in_place_append_tag(nonce, Aad::from(&head), &mut text) {
        Ok(()) => [head, text].concat(),
        Err(_) => Vec::new(),
    }
}

/// Opens what [`seal_checkpoint`] sealed; none when it does not hold.
pub(super) fn open_checkpoint(
    encryption: Option<&Encryption>,
    uid: u64,
    sealed: &[u8],
) -> Option<Vec<u8>> {
    const HEAD_BYTES: usize = 28 + NONCE_LEN;
    if sealed.get(..8)? != SEALED_MAGIC || u64_at(sealed, 8)? != uid {
        return None;
    }
    let key = encryption?.key_of(u64_at(sealed, 16)?)?;
    let cipher = Cipher::from_number(u8::try_from(u32_at(sealed, 24)?).ok()?)?;
    let (sealing, _) = checkpoint_keys(key, cipher, uid)?;
    let (head, text) = sealed.split_at_checked(HEAD_BYTES)?;
    let bytes: [u8; NONCE_LEN] = head.get(28..)?.try_into().ok()?;
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(bytes);
    let len = sealing.open_in_place(nonce, Aad::from(head), &mut text).ok()?.len();
    text.truncate(len);
    Some(text)
}

fn checkpoint_keys(key: &StoreKey, cipher: Cipher, uid: u64) -> Option<(LessSafeKey, hmac::Key)> {
    let uid = uid.to_le_bytes();
    let info: [&[u8]; 3] = [b"checkpoint", &uid, &[cipher.number()]];
    let mut hash = [0; KEY_BYTES];
    derive(DOMAIN, &key.root, &[b"checkpoint nonce", &uid], &mut hash);
    let sealing = key.seal_key(cipher, DOMAIN, &info)?;
    Some((sealing, hmac::Key::new(hmac::HMAC_SHA256, &hash)))
}
