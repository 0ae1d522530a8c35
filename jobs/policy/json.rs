//! JSON from callers, read strictly. Guards that what a caller wrote is what is done: a name that comes twice is refused, since
//! one of its values would be lost, and so is a list where named fields are meant, since it would be read by position.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};
use serde_json::{Error, Map, Number, Value};
use serde_path_to_error::Error as ErrorAt;

/// Reads bytes into a `T`.
///
/// # Errors
/// What does not fit, and where.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorAt<Error>> {
    fit(tree(bytes)?)
}

/// Reads bytes into a value in which no name comes twice.
///
/// # Errors
/// What is no JSON, or the name that comes twice, and where.
pub fn tree(bytes: &[u8]) -> Result<Value, ErrorAt<Error>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Tree(value) = serde_path_to_error::deserialize(&mut reader)?;
    let track = serde_path_to_error::Track::new();
    reader.end().map_err(|error| ErrorAt::new(track.path(), error))?;
    Ok(value)
}

/// Reads a value into a `T`, structs from objects alone.
///
/// # Errors
/// What does not fit, and where.
pub fn fit<T: DeserializeOwned>(value: Value) -> Result<T, ErrorAt<Error>> {
    serde_path_to_error::deserialize(Strict(value))
}

/// A value that gives a struct only when it is an object.
struct Strict(Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Strict));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let mut fields = MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Strict(value))));
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"an object with named fields")),
            Value::Object(mut fields) => {
                // A field that is null is one that was left out.
                fields.retain(|name, value| !value.is_null() || !known.contains(&name.as_str()));
                Strict(Value::Object(fields)).deserialize_any(visitor)
            }
            plain => Strict(plain).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A value in which no name comes twice.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Tree(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(de::Error::custom(format_args!("duplicate field `{name}`")));
            }
            let Tree(value) = fields.next_value()?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        inner: Option<Inner>,
        #[serde(default)]
        many: Vec<Inner>,
        word: Option<Word>,
        number: Option<f64>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        id: u64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Yes,
        No,
    }

    fn complaint(text: &str) -> (String, String) {
        let error = read::<Outer>(text.as_bytes()).unwrap_err();
        (error.path().to_string(), error.into_inner().to_string())
    }

    #[test]
    fn what_fits_is_read() {
        let text = br#"{"name":"n","inner":{"id":18446744073709551615},"many":[{"id":1}],"word":"no","number":1.5}"#;
        let inner = Some(Inner { id: u64::MAX });
        let meant =
            Outer { name: "n".into(), inner, many: vec![Inner { id: 1 }], word: Some(Word::No), number: Some(1.5) };
        assert_eq!(read::<Outer>(text).unwrap(), meant);
        assert_eq!(read::<Outer>(br#"{"name":"n","word":null,"inner":null}"#).unwrap().word, None);
        assert_eq!(read::<Outer>(br#"{"name":"n","many":null}"#).unwrap().many, [], "null is left out");
        assert!(complaint(r#"{"name":null}"#).1.starts_with("missing field `name`"));
        assert!(complaint(r#"{"name":"n","nam":null}"#).1.starts_with("unknown field `nam`"));
    }

    #[test]
    fn a_list_is_no_struct_however_deep_it_lies() {
        for (text, path) in [
            (r#"["n", null]"#, "."),
            (r#"{"name":"n","inner":[1]}"#, "inner"),
            (r#"{"name":"n","many":[{"id":1},[2]]}"#, "many[1]"),
        ] {
            let (at, why) = complaint(text);
            assert_eq!(
                (at.as_str(), why.as_str()),
                (path, "invalid type: sequence, expected an object with named fields")
            );
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_however_deep_it_lies() {
        assert_eq!(complaint(r#"{"name":"n","name":"m"}"#).1.split(" at ").next(), Some("duplicate field `name`"));
        let (path, why) = complaint(r#"{"name":"n","many":[{"id":1,"id":2}]}"#);
        assert!(path.starts_with("many[0]") && why.starts_with("duplicate field `id`"), "{path}: {why}");
    }

    #[test]
    fn what_comes_behind_the_value_is_refused() {
        assert!(complaint(r#"{"name":"n"} {}"#).1.starts_with("trailing characters"));
    }

    #[test]
    fn a_word_that_is_none_is_told_with_its_field() {
        assert_eq!(complaint(r#"{"name":"n","word":5}"#).0, "word");
        assert_eq!(complaint(r#"{"name":"n","word":"maybe"}"#).0, "word");
    }
}
