//! Images: which may be pulled, run, built from, and which names a build may give.

use engine::demand::{ImageUse, TagUse};
use engine::facts::Owner;
use engine::reference::ImageReference;

use super::from_yaml_string;
use super::name::glob;

/// Images that may be used: `official` (Docker Official Images), `own` (what the tenant built), or a repository with its registry host,
/// where `*` stands for anything within one part of the path and `**` for any number of parts. A repository covers its tags and digests;
/// with a tag or digest only that one is covered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum ImagePattern {
    /// Any image at all; still none that another tenant built.
    Any,
    /// Docker Official Images.
    Official,
    /// Images that the tenant built.
    Own,
    /// A repository, by host and path.
    Repository(RepositoryPattern),
}

/// A pattern of repositories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryPattern {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

from_yaml_string!(ImagePattern, "registry.example.com/**");

impl ImagePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "**" => Ok(Self::Any),
            "official" => Ok(Self::Official),
            "own" => Ok(Self::Own),
            _ => RepositoryPattern::parse(text).map(Self::Repository),
        }
    }

    /// Whether it covers a use. What another tenant built is nobody else's to run, whatever its name.
    #[must_use]
    pub fn covers(&self, image: &ImageUse) -> bool {
        match (self, image.owner) {
            (_, Owner::Other) => false,
            (Self::Any, _) | (Self::Own, Owner::Own) => true,
            (Self::Own, Owner::Nobody) => false,
            (Self::Official, _) => image.names.iter().any(is_official),
            (Self::Repository(pattern), _) => image.names.iter().any(|name| pattern.covers(name)),
        }
    }
}

impl RepositoryPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest.to_owned())));
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let host = repository.split('/').next().unwrap_or_default();
        if !repository.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
            return Err(format!("name the registry: `docker.io/library/{repository}` for an official image, `docker.io/ORG/NAME`, or `HOST/NAME`"));
        }
        if host.contains('*') || repository.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a pattern begins with a registry's host, without `*` in it".to_owned());
        }
        let repository = repository.strip_prefix("index.docker.io/").map_or_else(|| repository.to_owned(), |path| format!("docker.io/{path}"));
        Ok(Self { repository, tag, digest })
    }

    fn covers(&self, name: &ImageReference) -> bool {
        let pattern: Vec<&str> = self.repository.split('/').collect();
        let repository = name.repository();
        let parts: Vec<&str> = repository.split('/').collect();
        segments(&pattern, &parts)
            && self.tag.as_deref().is_none_or(|tag| name.effective_tag().is_some_and(|given| glob(tag, given)))
            && self.digest.as_deref().is_none_or(|digest| name.digest() == Some(digest))
    }
}

fn segments(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((&"**", [])), Some(_)) => true,
        (Some((&"**", rest)), Some((_, after))) => segments(rest, parts) || segments(pattern, after),
        (Some((first, rest)), Some((part, after))) => glob(first, part) && segments(rest, after),
        _ => false,
    }
}

/// Whether a name is that of a Docker Official Image, by the list of docker-library/official-images (its date is in the file).
#[must_use]
pub fn is_official(name: &ImageReference) -> bool {
    name.bare_name().is_some_and(|bare| OFFICIAL.lines().any(|line| line == bare))
}

const OFFICIAL: &str = include_str!("../../data/official-images.txt");

/// Names that a build may give: `bare` (a name without registry and organisation that is no Docker Official Image's), `own` is not one;
/// or a pattern as in `images`. Never a name that an image of somebody else has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum TagPattern {
    /// Any name, also one that somebody else's image has.
    Any,
    /// Names without registry and organisation, official ones excepted.
    Bare,
    /// A repository.
    Repository(RepositoryPattern),
}

from_yaml_string!(TagPattern, "bare");

impl TagPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "**" => Ok(Self::Any),
            "bare" => Ok(Self::Bare),
            _ => RepositoryPattern::parse(text).map(Self::Repository),
        }
    }

    /// Whether it covers a name.
    #[must_use]
    pub fn covers(&self, tag: &TagUse) -> bool {
        let free = matches!(tag.taken, None | Some(Owner::Own));
        match self {
            Self::Any => true,
            Self::Bare => free && tag.name.bare_name().is_some() && !is_official(&tag.name),
            Self::Repository(pattern) => free && pattern.covers(&tag.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(name: &str, owner: Owner) -> ImageUse {
        ImageUse { written: name.to_owned(), names: vec![ImageReference::parse(name).unwrap()], owner }
    }

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, name, covered) in [
            ("docker.io/library/cifixture", "cifixture:1", true),
            ("docker.io/library/cifixture", "cifixture@sha256:0000000000000000000000000000000000000000000000000000000000000000", true),
            ("docker.io/library/cifixture:1", "cifixture", false),
            ("docker.io/library/*", "evil/img", false),
            ("registry.example.com/**", "registry.example.com/a/b:1", true),
            ("registry.example.com/**", "registry.example.com:5000/a", false),
            ("registry.example.com/*", "registry.example.com/a/b", false),
            ("registry.example.com/**", "evil.example.com/registry.example.com/x", false),
            ("official", "alpine", true),
            ("official", "bitnami/redis", false),
            ("official", "cifixture", false),
            ("**", "x/y", true),
        ] {
            assert_eq!(ImagePattern::parse(pattern).unwrap().covers(&used(name, Owner::Nobody)), covered, "{pattern} {name}");
            assert!(!ImagePattern::parse(pattern).unwrap().covers(&used(name, Owner::Other)), "{pattern} {name} of another tenant");
        }
    }

    #[test]
    fn a_pattern_names_its_registry() {
        for pattern in ["alpine", "bitnami/redis", "*.example.com/x", "*/x"] {
            assert!(ImagePattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn bare_tags_leave_official_and_foreign_names_alone() {
        for (name, taken, covered) in [
            ("app", None, true),
            ("app:2", Some(Owner::Own), true),
            ("app", Some(Owner::Other), false),
            ("app", Some(Owner::Nobody), false),
            ("postgres:16", None, false),
            ("org/app", None, false),
            ("registry.example.com/app", None, false),
        ] {
            assert_eq!(TagPattern::Bare.covers(&TagUse { name: ImageReference::parse(name).unwrap(), taken }), covered, "{name} {taken:?}");
        }
    }
}
