//! A file's name and its line in a listing, which clients show as it comes.

use super::attributes;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use sublet_guest::sftp_wire::{self as wire, Attributes, date};

/// One entry of a listing.
#[derive(Debug)]
pub struct Name {
    /// As the file system has it.
    pub name: Vec<u8>,
    /// As `ls -l` would print it.
    pub line: Vec<u8>,
    /// What is known of it.
    pub attributes: Attributes,
}

impl Name {
    /// A name alone, as an answer about a path.
    pub fn bare(name: Vec<u8>) -> Self {
        Self { line: name.clone(), name, attributes: Attributes::default() }
    }

    /// An entry of a folder.
    pub fn listed(name: Vec<u8>, known: &Metadata) -> Self {
        let mut line = format!(
            "{} {:>4} {:<8} {:<8} {:>8} {} ",
            mode(known),
            known.nlink(),
            known.uid(),
            known.gid(),
            known.size(),
            date(known.mtime())
        )
        .into_bytes();
        line.extend_from_slice(&name);
        Self { name, line, attributes: attributes::of(known) }
    }

    /// Appends it to an answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        wire::bytes(out, &self.name);
        wire::bytes(out, &self.line);
        self.attributes.write(out);
    }
}

fn mode(known: &Metadata) -> String {
    let (kind, bits) = (known.file_type(), known.mode());
    let kind = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_block_device() => 'b',
        () if kind.is_char_device() => 'c',
        () => '-',
    };
    let special = [(0o4000, 's'), (0o2000, 's'), (0o1000, 't')];
    let triples = special.iter().enumerate().flat_map(|(at, (special, letter))| {
        let three = bits >> (6 - 3 * at);
        let last = match (three & 1 != 0, bits & special != 0) {
            (true, true) => *letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
        [if three & 4 != 0 { 'r' } else { '-' }, if three & 2 != 0 { 'w' } else { '-' }, last]
    });
    std::iter::once(kind).chain(triples).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn modes_read_as_ls_prints_them() {
        let folder = std::env::temp_dir().join(format!("sublet-modes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (bits, expected) in
            [(0o755, "drwxr-xr-x"), (0o1777, "drwxrwxrwt"), (0o4644, "drwSr--r--"), (0o2770, "drwxrws---")]
        {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(mode(&folder.metadata().unwrap()), expected);
        }
        std::fs::remove_dir(&folder).unwrap();
    }
}
