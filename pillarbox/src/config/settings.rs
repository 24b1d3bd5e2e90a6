//! The macro that makes a section of the configuration: a type, its defaults and its manual from one text.
//!
//! The doc comment of a setting is what `pillarbox config explain` and the manual page print, so the three cannot drift
//! apart. An unknown key is an error (P58).

/// What is known of one setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Dotted key, such as `storage.folder`; `listener[].address` for a field of each entry of a list.
    pub key: String,
    /// Its default, as it would be written; `None` where there is no default.
    pub default: Option<String>,
    /// Its manual.
    pub manual: String,
}

/// A section that can describe its settings.
pub trait Section {
    /// The manual of the section as a whole.
    const MANUAL: &'static [&'static str];
    /// All settings, `prefix` in front of their keys.
    fn describe(prefix: &str) -> Vec<Setting>;
}

/// Joins the lines of a doc comment.
pub fn manual(lines: &[&str]) -> String {
    lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// One setting described by its key, default and doc lines.
pub fn setting<T: serde::Serialize>(prefix: &str, name: &str, default: &T, lines: &[&str]) -> Setting {
    let dot = if prefix.is_empty() { "" } else { "." };
    let value = toml::Value::try_from(default).ok();
    Setting {
        key: format!("{prefix}{dot}{name}"),
        default: value.map(|value| value.to_string()),
        manual: manual(lines),
    }
}

/// Declares a section: `/// manual` lines, then `name: Type = default`.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $section:ident {
            $( $(#[doc = $doc:literal])* $(#[serde($($serde:tt)*)])? pub $name:ident : $kind:ty = $default:expr; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $( $(#[doc = $doc])* $(#[serde($($serde)*)])? pub $name: $kind, )*
        }
        impl Default for $section {
            fn default() -> Self {
                $section { $( $name: $default, )* }
            }
        }
        impl $crate::config::settings::Section for $section {
            const MANUAL: &'static [&'static str] = &[$($about),*];
            fn describe(prefix: &str) -> Vec<$crate::config::settings::Setting> {
                let defaults = $section::default();
                vec![ $( $crate::config::settings::setting(prefix, stringify!($name), &defaults.$name, &[$($doc),*]), )* ]
            }
        }
    };
}
pub(crate) use section;
