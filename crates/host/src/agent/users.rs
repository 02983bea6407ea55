//! Users of this computer: partitions run as numbers that nobody has.

/// Whether a user with this number exists.
pub fn exists(uid: u32) -> bool {
    std::fs::read_to_string("/etc/passwd").is_ok_and(|text| is_listed(&text, uid))
}

fn is_listed(passwd: &str, uid: u32) -> bool {
    passwd.lines().any(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_the_third_field_only() {
        let passwd = "root:x:0:0::/root:/bin/sh\nodd\nbox:x:61000:9:61001:/:\n";
        assert_eq!([0, 61000, 61001, 9].map(|uid| is_listed(passwd, uid)), [true, true, false, false]);
    }
}
