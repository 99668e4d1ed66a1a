//! How large each input may be, checked before anything is decoded; bytes unless said otherwise.

/// The journaling extension: a signed disclosure with its key records.
pub const DISCLOSURE: usize = 32 * 1024;
/// A PrivateMessage: 33 bytes of plaintext, a signature, 32 bytes of authenticated data, framing and padding.
pub const APPLICATION: usize = 1024;
/// A PublicMessage: adding 1,000 members takes about 350 KiB.
pub const HANDSHAKE: usize = 1024 * 1024;
/// A Welcome with its ratchet tree: 1,000 members take about 0.4 MB.
pub const WELCOME: usize = 2 * 1024 * 1024;
/// A GroupInfo with its ratchet tree.
pub const GROUP_INFO: usize = 2 * 1024 * 1024;
/// A key package.
pub const KEY_PACKAGE: usize = 2 * 1024;
/// Proposals in one commit.
pub const PROPOSALS: usize = 2_000;
/// Entries in any of a leaf's capability lists.
pub const CAPABILITIES: usize = 32;
/// Extensions in a list. The library's decoding time grows with the square of this number, so it is checked first.
pub const EXTENSIONS: usize = 4;
