//! The paths of a repository as keys, and back: one path, one key.

use tower_lock::{KeyRules, ResourceKey};

use crate::answer::Failure;

/// How a path becomes a key: letter by letter. To git, `a//b` would be another file than `a/b`, and so would `A/b`.
pub(crate) fn rules() -> KeyRules {
    use tower_lock::lock::Separator;
    KeyRules::new().exact().backslash_separates(Separator::Slash)
}

/// The key of a file in `repository`.
///
/// A path is what git keeps in its index: relative to the top of the repository, `/` between names. Nothing else can be in
/// a repository, so nothing else can be locked: the file would stay as free as before.
pub(crate) fn key(path: &str, repository: Option<&str>) -> Result<ResourceKey<'static>, Failure> {
    let is_name = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.eq_ignore_ascii_case(".git");
    if path.contains('\0') || !path.split('/').all(is_name) {
        return Err(Failure::meaningless(format!("{path:?} is no path of a file in a repository.")));
    }
    // A key is made of a path as it stands in a URI, and is decoded. Here nothing is encoded: `%41.bin` is a name of its own.
    let encoded = format!("/{}", path.replace('%', "%25"));
    let key = rules().key(&encoded).map_err(|error| Failure::meaningless(error.to_string()))?.into_owned();
    Ok(match repository {
        Some(repository) => key.in_namespace(repository.to_owned()),
        None => key,
    })
}

/// The path of a file, from the path of its key.
pub(crate) fn path(key: &str) -> String {
    key.strip_prefix('/').unwrap_or(key).replace("%25", "%")
}
