//! The header of an encrypted disk in the form that QEMU's `luks` driver reads (LUKS 1), and its
//! sectors (AES-256 in XTS mode).
//!
//! Written here, for the usual tools measure for seconds how slowly a password can be turned into a
//! key. There is no password to be guessed: what unlocks the disk is as random as its master key.
//!
//! ```text
//! header 4 KiB | 8 slots of 252 KiB | sectors …
//!                 slot 0: the master key, split in 4000 and encrypted under the secret
//! ```

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Where the sectors begin.
pub const PAYLOAD_BYTES: u64 = 4040 * SECTOR as u64;
/// What is encrypted at a time.
pub const SECTOR: usize = 512;

const KEY_BYTES: usize = 64;
const SLOTS: u32 = 8;
/// Of one slot, in sectors: 4000 stripes of a key, rounded up to a page.
const SLOT_SECTORS: u32 = 504;
const FIRST_SLOT_SECTOR: u32 = 8;
/// What readers insist on.
const STRIPES: u32 = 4000;
const ENABLED: u32 = 0x00ac_71f3;
const DISABLED: u32 = 0x0000_dead;
/// The least that readers take: 256 random bits need no more.
const ROUNDS: u32 = 1000;

/// The key under which sectors are encrypted.
pub struct Master {
    key: Zeroizing<[u8; KEY_BYTES]>,
    sectors: Xts,
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Master(…)")
    }
}

/// A header could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to take randomness for a key from the operating system: {0}")]
pub struct NoRandomness(getrandom::Error);

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(NoRandomness)?;
    Ok(bytes)
}

impl Master {
    /// A new one.
    pub fn random() -> Result<Self, NoRandomness> {
        let key = random::<KEY_BYTES>()?;
        let sectors = Xts::new(&key);
        Ok(Self { key, sectors })
    }

    /// All that stands before the sectors; `secret` opens it.
    pub fn header(&self, secret: &[u8], uuid: uuid::Uuid) -> Result<Vec<u8>, NoRandomness> {
        let (salt, slot_salt) = (random::<32>()?, random::<32>()?);
        let mut digest = [0; 20];
        derive(self.key.as_slice(), salt.as_slice(), &mut digest);
        let mut header = Vec::with_capacity(PAYLOAD_BYTES as usize);
        header.extend_from_slice(b"LUKS\xba\xbe\x00\x01");
        for (text, width) in [("aes", 32), ("xts-plain64", 32), ("sha256", 32)] {
            padded(&mut header, text, width);
        }
        for number in [(PAYLOAD_BYTES / SECTOR as u64) as u32, KEY_BYTES as u32] {
            header.extend_from_slice(&number.to_be_bytes());
        }
        header.extend_from_slice(&digest);
        header.extend_from_slice(salt.as_slice());
        header.extend_from_slice(&ROUNDS.to_be_bytes());
        padded(&mut header, &uuid.hyphenated().to_string(), 40);
        for slot in 0..SLOTS {
            let (state, rounds) = if slot == 0 { (ENABLED, ROUNDS) } else { (DISABLED, 0) };
            let salt = if slot == 0 { *slot_salt } else { [0; 32] };
            header.extend_from_slice(&state.to_be_bytes());
            header.extend_from_slice(&rounds.to_be_bytes());
            header.extend_from_slice(&salt);
            header.extend_from_slice(&(FIRST_SLOT_SECTOR + slot * SLOT_SECTORS).to_be_bytes());
            header.extend_from_slice(&STRIPES.to_be_bytes());
        }
        header.resize(FIRST_SLOT_SECTOR as usize * SECTOR, 0);
        header.extend_from_slice(&self.slot(secret, slot_salt.as_slice())?);
        header.resize(PAYLOAD_BYTES as usize, 0);
        Ok(header)
    }

    /// The master key, split so that a part of it is worth nothing, and encrypted under the secret.
    fn slot(&self, secret: &[u8], salt: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let mut slot = vec![0; KEY_BYTES * STRIPES as usize];
        let last = slot.len() - KEY_BYTES;
        getrandom::fill(&mut slot[..last]).map_err(NoRandomness)?;
        let mut mixed = Zeroizing::new([0; KEY_BYTES]);
        for stripe in slot[..last].chunks_exact(KEY_BYTES) {
            xor(mixed.as_mut_slice(), stripe);
            diffuse(mixed.as_mut_slice());
        }
        xor(mixed.as_mut_slice(), self.key.as_slice());
        slot[last..].copy_from_slice(mixed.as_slice());
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derive(secret, salt, key.as_mut_slice());
        Xts::new(&key).encrypt(0, &mut slot);
        Ok(slot)
    }

    /// Encrypts whole sectors in place, of which the first has this number.
    pub fn encrypt(&self, first: u64, sectors: &mut [u8]) {
        self.sectors.encrypt(first, sectors);
    }
}

fn padded(to: &mut Vec<u8>, text: &str, width: usize) {
    let end = to.len() + width;
    to.extend_from_slice(text.as_bytes());
    to.resize(end, 0);
}

fn xor(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}

/// Each part of it from now on depends on all of that part.
fn diffuse(bytes: &mut [u8]) {
    for (number, part) in (0u32..).zip(bytes.chunks_mut(32)) {
        let hashed = Sha256::new().chain_update(number.to_be_bytes()).chain_update(&*part).finalize();
        part.copy_from_slice(&hashed[..part.len()]);
    }
}

/// PBKDF2 with HMAC-SHA-256.
fn derive(secret: &[u8], salt: &[u8], to: &mut [u8]) {
    let keyed = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Array::default()));
    for (number, part) in (1u32..).zip(to.chunks_mut(32)) {
        let mut round = keyed.clone().chain_update(salt).chain_update(number.to_be_bytes()).finalize().into_bytes();
        let mut sum = round;
        for _ in 1..ROUNDS {
            round = keyed.clone().chain_update(round).finalize().into_bytes();
            xor(&mut sum, &round);
        }
        part.copy_from_slice(&sum[..part.len()]);
    }
}

/// AES-256 in XTS mode: each sector under its own number.
struct Xts {
    data: Aes256,
    number: Aes256,
}

impl Xts {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let half = |from: usize| {
            let mut half = Zeroizing::new([0; 32]);
            half.copy_from_slice(&key[from..from + 32]);
            Aes256::new(&Array(*half))
        };
        Self { data: half(0), number: half(32) }
    }

    fn encrypt(&self, first: u64, bytes: &mut [u8]) {
        for (number, sector) in (first..).zip(bytes.chunks_mut(SECTOR)) {
            let mut tweak = Array([0; 16]);
            tweak[..8].copy_from_slice(&number.to_le_bytes());
            self.number.encrypt_block(&mut tweak);
            for block in sector.chunks_exact_mut(16) {
                xor(block, &tweak);
                let mut whole = Array([0; 16]);
                whole.copy_from_slice(block);
                self.data.encrypt_block(&mut whole);
                block.copy_from_slice(&whole);
                xor(block, &tweak);
                // Times x, in the field that the standard chose.
                let doubled = u128::from_le_bytes(tweak.0) << 1;
                let carried = if tweak[15] & 0x80 == 0 { 0 } else { 0x87 };
                tweak = Array((doubled ^ carried).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_encrypted_as_the_standard_says() {
        // IEEE 1619, vector 10: XTS-AES-256, sector 0xff.
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let key = hex(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592"
        ));
        let mut sector: Vec<u8> = (0..SECTOR).map(|at| at as u8).collect();
        Xts::new(&key.try_into().unwrap()).encrypt(0xff, &mut sector);
        assert_eq!(sector[..32], hex("1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"));
        assert_eq!(sector[SECTOR - 16..], hex("c4f36ffda9fcea70b9c6e693e148c151"));
    }

    #[test]
    fn a_key_is_derived_as_the_standard_says() {
        // As Python's hashlib.pbkdf2_hmac says.
        let mut key = [0; 40];
        derive(b"password", b"salt", &mut key);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&key),
            "632c2812e46d4604102ba7618e9d6d7d2f8128f6266b4a03264d2a0460b7dcb388b3b1131f741bcb"
        );
    }
}
