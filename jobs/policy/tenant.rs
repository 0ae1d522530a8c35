//! The tenant's document: who they are, until when they lease, and which environments and data centers they have.
//!
//! Parsed and checked at the border; what is inside a [`Tenant`] has valid ids, unique data centers and target URLs
//! without a secret in clear text.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusal::{ErrorCode, Refusal};
use super::roles::Role;
use super::shown;

/// A tenant, as the API reads and writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The id in the path of the request; may be left out of the body.
    #[serde(default)]
    pub id: String,
    /// The company's name.
    pub name: String,
    /// The class of the lease.
    #[serde(default)]
    pub class: TenantClass,
    /// Whether it is a paying tenant, not a trial (ROLE-01).
    pub formal: bool,
    /// The lease end date of production: day 0, the last running day.
    #[schemars(with = "String")]
    pub lease_end: NaiveDate,
    /// The people who get notices.
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// What is leased.
    #[serde(default)]
    pub environments: Vec<Environment>,
}

/// The class of a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantClass {
    /// On shared resources.
    #[default]
    Standard,
    /// With servers of its own.
    DedicatedVip,
}

/// A person of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The id of the person at the upstream system.
    pub user_id: String,
    /// What the person is.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Where e-mail goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Where SMS go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mobile: Option<String>,
    /// Where instant messages go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yunzhijia_id: Option<String>,
}

/// A leased environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Its id, unique in the tenant.
    pub id: String,
    /// What it is for.
    pub kind: EnvironmentKind,
    /// Whether it is shared with other tenants.
    #[serde(default)]
    pub tenancy: Tenancy,
    /// Whether it has servers of its own.
    #[serde(default)]
    pub resource_class: ResourceClass,
    /// Its own end date; the tenant's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lease_end: Option<NaiveDate>,
    /// The domain that leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The host and folder of its site: `local:DIR` or `ssh://user@host:port/DIR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Where its product attachments lie: `file:DIR` or `s3://bucket/prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<String>,
    /// Its account sets.
    #[serde(default)]
    pub data_centers: Vec<DataCenter>,
}

/// What an environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentKind {
    /// Where the company works.
    Production,
    /// Test environment of a standard tenant.
    StandardTest,
    /// Test environment that a dedicated VIP tenant buys.
    VipTest,
    /// Test account set of a dedicated VIP tenant.
    TestDataCenter,
}

/// Whether an environment is shared with other tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tenancy {
    /// Shared.
    #[default]
    MultiTenant,
    /// Not shared.
    SingleTenant,
}

/// Whether an environment has servers of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceClass {
    /// On shared servers.
    #[default]
    Shared,
    /// On its own servers.
    DedicatedVip,
}

/// An account set: one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataCenter {
    /// Its id, unique in the tenant.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// The database: `sqlite:PATH`, `postgres://…` or `mssql://…`.
    pub database: String,
}

const RULE: &str = "ENG-12";
const DATABASES: [&str; 4] = ["sqlite", "postgres", "postgresql", "mssql"];
const HOSTS: [&str; 2] = ["local", "ssh"];
const FILES: [&str; 3] = ["file", "s3", "local"];

impl Tenant {
    /// Reads the document of the tenant `id` and checks it; the first complaint is returned.
    pub fn parse(id: &str, json: &[u8]) -> Result<Self, Refusal> {
        let mut tenant: Self = super::json::read(json).map_err(unreadable)?;
        if !tenant.id.is_empty() && tenant.id != id {
            return Err(Refusal::invalid(RULE, "id", format!("`{}` is not the `{id}` of the path", tenant.id)));
        }
        tenant.id = id.to_owned();
        tenant.check()?;
        Ok(tenant)
    }

    /// Checks what the types cannot: ids, uniqueness, URLs.
    pub fn check(&self) -> Result<(), Refusal> {
        check_id("id", &self.id)?;
        filled("name", &self.name)?;
        for (i, contact) in self.contacts.iter().enumerate() {
            filled(&format!("contacts[{i}].user_id"), &contact.user_id)?;
        }
        let mut environments = BTreeSet::new();
        let mut data_centers = BTreeSet::new();
        for (i, environment) in self.environments.iter().enumerate() {
            let at = format!("environments[{i}]");
            environment.check(&at)?;
            unique(&mut environments, format!("{at}.id"), &environment.id)?;
            for (n, data_center) in environment.data_centers.iter().enumerate() {
                unique(&mut data_centers, format!("{at}.data_centers[{n}].id"), &data_center.id)?;
            }
        }
        Ok(())
    }

    /// Checks the names and addresses of a document that is about to be written. One that was written before this rule
    /// stays readable: its jobs go on.
    pub fn check_shown(&self) -> Result<(), Refusal> {
        shown::check_name(RULE, "name", &self.name)?;
        for (i, contact) in self.contacts.iter().enumerate() {
            let given = |address: &Option<String>| address.clone().unwrap_or_default();
            shown::check_name(RULE, &format!("contacts[{i}].user_id"), &contact.user_id)?;
            shown::check_email(RULE, &format!("contacts[{i}].email"), &given(&contact.email))?;
            shown::check_mobile(RULE, &format!("contacts[{i}].mobile"), &given(&contact.mobile))?;
            shown::check_name(RULE, &format!("contacts[{i}].yunzhijia_id"), &given(&contact.yunzhijia_id))?;
        }
        for (i, environment) in self.environments.iter().enumerate() {
            for (n, data_center) in environment.data_centers.iter().enumerate() {
                let field = format!("environments[{i}].data_centers[{n}].name");
                shown::check_name(RULE, &field, &data_center.name)?;
            }
        }
        Ok(())
    }

    /// A data center by its id, with the environment that it belongs to.
    #[must_use]
    pub fn data_center(&self, id: &str) -> Option<(&Environment, &DataCenter)> {
        self.environments.iter().find_map(|environment| {
            let found = environment.data_centers.iter().find(|data_center| data_center.id == id)?;
            Some((environment, found))
        })
    }

    /// A data center by its id, or the refusal that names the field.
    pub fn require_data_center(&self, id: &str, field: &str) -> Result<(&Environment, &DataCenter), Refusal> {
        self.data_center(id).ok_or_else(|| {
            let detail = format!("tenant `{}` has no data center `{id}`", self.id);
            Refusal::new(ErrorCode::UnknownDataCenter, RULE, detail).with_field(field)
        })
    }

    /// An environment by its id.
    #[must_use]
    pub fn environment(&self, id: &str) -> Option<&Environment> {
        self.environments.iter().find(|environment| environment.id == id)
    }

    /// The end date that counts for an environment: its own, else the tenant's (production always has the tenant's
    /// unless it states its own).
    #[must_use]
    pub fn lease_end_of(&self, environment: &Environment) -> NaiveDate {
        environment.lease_end.unwrap_or(self.lease_end)
    }

    /// The contacts that have the role.
    pub fn contacts_with(&self, role: Role) -> impl Iterator<Item = &Contact> {
        self.contacts.iter().filter(move |contact| contact.roles.contains(&role))
    }
}

impl Environment {
    fn check(&self, at: &str) -> Result<(), Refusal> {
        check_id(&format!("{at}.id"), &self.id)?;
        if let Some(site) = &self.site {
            check_url(&format!("{at}.site"), site, &HOSTS)?;
        }
        if let Some(attachments) = &self.attachments {
            check_url(&format!("{at}.attachments"), attachments, &FILES)?;
        }
        for (n, data_center) in self.data_centers.iter().enumerate() {
            let at = format!("{at}.data_centers[{n}]");
            check_id(&format!("{at}.id"), &data_center.id)?;
            filled(&format!("{at}.name"), &data_center.name)?;
            check_url(&format!("{at}.database"), &data_center.database, &DATABASES)?;
        }
        Ok(())
    }
}

/// Refuses an id that is not 1–64 of `[A-Za-z0-9_-]` (requirements 7.1).
pub fn check_id(field: &str, id: &str) -> Result<(), Refusal> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(letter) {
        return Ok(());
    }
    Err(Refusal::invalid(RULE, field, "an id is 1 to 64 of A-Z a-z 0-9 _ -").with_limit("[A-Za-z0-9_-]{1,64}"))
}

fn filled(field: &str, text: &str) -> Result<(), Refusal> {
    match text.trim().is_empty() {
        true => Err(Refusal::invalid(RULE, field, "it may not be empty")),
        false => Ok(()),
    }
}

fn unique<'a>(seen: &mut BTreeSet<&'a str>, field: String, id: &'a str) -> Result<(), Refusal> {
    match seen.insert(id) {
        true => Ok(()),
        false => Err(Refusal::invalid(RULE, field, format!("`{id}` is used twice in this tenant"))),
    }
}

/// Refuses a target whose scheme is not one of `schemes`, or that carries a secret in clear text.
fn check_url(field: &str, url: &str, schemes: &[&str]) -> Result<(), Refusal> {
    let known = url.split_once(':').filter(|(scheme, rest)| schemes.contains(scheme) && !rest.is_empty());
    let Some((_, rest)) = known else {
        let list = schemes.join(", ");
        return Err(Refusal::invalid(RULE, field, format!("the target must start with one of: {list}"))
            .with_limit(format!("schemes: {list}")));
    };
    if clear_secret(rest) {
        return Err(Refusal::invalid(RULE, field, "a target may not carry a secret in clear text")
            .with_remedy("write `${secret:NAME}` there, and the value in the configuration under `secrets`"));
    }
    Ok(())
}

/// Whether the part after `scheme:` has a password that is not a `${secret:NAME}`.
fn clear_secret(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix("//") else { return false };
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority_end = before_query.rfind('@').unwrap_or(0);
    let password = before_query[..authority_end].split_once(':').map_or("", |(_, password)| password);
    let in_query = query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        (name.contains("password") || name == "pwd" || name.contains("secret")) && !is_reference(value)
    });
    !(password.is_empty() || is_reference(password)) || in_query
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("${secret:")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| check_id("", name).is_ok())
}

fn unreadable(error: serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let path = error.path().to_string();
    let inner = error.into_inner();
    let code = match inner.classify() {
        serde_json::error::Category::Data if inner.to_string().starts_with("unknown field") => ErrorCode::UnknownField,
        serde_json::error::Category::Data => ErrorCode::InvalidArgument,
        _ => ErrorCode::MalformedJson,
    };
    Refusal::new(code, RULE, inner.to_string()).with_field(path)
}

#[cfg(test)]
#[path = "tenant_tests.rs"]
mod tests;
