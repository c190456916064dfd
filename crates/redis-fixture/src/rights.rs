//! The rights that users need, as the documentation has them.

/// The ACL rules that `docs/REDIS.md` names for this user, and no others: what
/// stands behind `>PASSWORD ` in its line.
#[must_use]
pub fn documented_rights(user: &str) -> &'static str {
    let page = include_str!("../../../docs/REDIS.md");
    let begin = format!("ACL SETUSER {user} ");
    let line = page.lines().find(|line| line.starts_with(&begin));
    let line = line.unwrap_or_else(|| panic!("docs/REDIS.md has no line {begin:?}"));
    let (_, rules) = line.split_once(">PASSWORD ").unwrap();
    rules
}
