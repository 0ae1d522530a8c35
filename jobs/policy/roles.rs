//! Who may do what: the roles that a customer's actor has (section 1 of the requirements) and the roles of an API key.
//!
//! The upstream system vouches for the actor's roles (ROLE-19); these checks decide what the roles allow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::refusal::{ErrorCode, Refusal};
use super::shown;

/// A role of an actor, as the authenticated upstream asserts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Administrator user of the customer company.
    EnterpriseAdmin,
    /// IT operator of the customer company.
    ItOps,
    /// Add-on role for SQL updates.
    DataOpsSpecialist,
    /// Ordinary user: own tickets, no operation.
    Employee,
    /// Trained contact that talks to support.
    SupportContact,
    /// First of the two named support administrators.
    SupportAdminPrimary,
    /// Second of the two named support administrators.
    SupportAdminBackup,
    /// Partner that develops and releases.
    Developer,
    /// Handles service tickets.
    CustomerService,
    /// Accepts and confirms patch requests.
    OpsAdmin,
    /// Handles requests, reviews letters.
    OpsSpecialist,
    /// Handles external network access.
    SecurityOpsAdmin,
    /// Reviews risky releases.
    VendorOpsTeam,
    /// Contacts the customer about renewal.
    SalesManager,
    /// Applies for licence upgrades.
    AccountStaff,
    /// Receives level-1 escalations.
    DutySupervisor,
    /// Owner of a support case.
    CustomerServiceRep,
    /// Reviews an annual review.
    Reviewer,
    /// The timers and triggers of this program.
    Scheduler,
    /// An upstream system.
    ApiClient,
    /// Reads queue depth and worker health.
    OpsMonitor,
}

/// On which side of the contract a role stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The tenant's own people.
    Customer,
    /// A development partner.
    Partner,
    /// The vendor's staff.
    Vendor,
    /// Not a person.
    Machine,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 21] = [
        Self::EnterpriseAdmin,
        Self::ItOps,
        Self::DataOpsSpecialist,
        Self::Employee,
        Self::SupportContact,
        Self::SupportAdminPrimary,
        Self::SupportAdminBackup,
        Self::Developer,
        Self::CustomerService,
        Self::OpsAdmin,
        Self::OpsSpecialist,
        Self::SecurityOpsAdmin,
        Self::VendorOpsTeam,
        Self::SalesManager,
        Self::AccountStaff,
        Self::DutySupervisor,
        Self::CustomerServiceRep,
        Self::Reviewer,
        Self::Scheduler,
        Self::ApiClient,
        Self::OpsMonitor,
    ];

    /// The side that the role stands on.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::EnterpriseAdmin
            | Self::ItOps
            | Self::DataOpsSpecialist
            | Self::Employee
            | Self::SupportContact
            | Self::SupportAdminPrimary
            | Self::SupportAdminBackup => Side::Customer,
            Self::Developer => Side::Partner,
            Self::CustomerService
            | Self::OpsAdmin
            | Self::OpsSpecialist
            | Self::SecurityOpsAdmin
            | Self::VendorOpsTeam
            | Self::SalesManager
            | Self::AccountStaff
            | Self::DutySupervisor
            | Self::CustomerServiceRep
            | Self::Reviewer => Side::Vendor,
            Self::Scheduler | Self::ApiClient | Self::OpsMonitor => Side::Machine,
        }
    }
}

/// The person in whose name an operation is asked for (requirements 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The id of the person at the upstream system.
    pub user_id: String,
    /// What the upstream says that this person is.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Where a verification code goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mobile: Option<String>,
    /// Where e-mail goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Where instant messages go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yunzhijia_id: Option<String>,
}

impl Actor {
    /// Whether the actor has the role.
    #[must_use]
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Refuses a user id that is empty, longer than 64 bytes or has control characters: it becomes part of counters,
    /// bindings and logs (ROLE-19).
    pub fn check(&self) -> Result<(), Refusal> {
        let id = &self.user_id;
        if (1..=64).contains(&id.len()) && !id.chars().any(char::is_control) && !id.trim().is_empty() {
            return Ok(());
        }
        Err(Refusal::invalid("ROLE-19", "actor.user_id", "a user id is 1 to 64 bytes without control characters"))
    }

    /// Refuses addresses that no notice can go to: the notice would fail later, where nobody sees it.
    pub fn check_addresses(&self) -> Result<(), Refusal> {
        let given = |address: &Option<String>| address.clone().unwrap_or_default();
        shown::check_email("ROLE-19", "actor.email", &given(&self.email))?;
        shown::check_mobile("ROLE-19", "actor.mobile", &given(&self.mobile))?;
        shown::check_name("ROLE-19", "actor.yunzhijia_id", &given(&self.yunzhijia_id))
    }

    fn is_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.is(*role))
    }
}

/// The switches of the role checks: the `role.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRules {
    /// `enterprise_admin` counts as `it_ops` where a rule names only the latter (ROLE-02, X-15).
    pub admin_implies_it_ops: bool,
}

/// The two roles that the texts name together (ROLE-04, ROLE-06, ROLE-07).
const ADMIN_OR_IT_OPS: [Role; 2] = [Role::EnterpriseAdmin, Role::ItOps];

impl RoleRules {
    /// Whether the actor may enter IT operations: `it_ops` of a formal tenant (ROLE-01), or its admin (ROLE-02).
    pub fn operate(&self, actor: &Actor, formal: bool) -> Result<(), Refusal> {
        formal_tenant(formal)?;
        let admin = self.admin_implies_it_ops && actor.is(Role::EnterpriseAdmin);
        let wanted = if self.admin_implies_it_ops { "it_ops or enterprise_admin" } else { "it_ops" };
        require(actor.is(Role::ItOps) || admin, "ROLE-01", actor, wanted)
    }

    /// Whether the actor may update SQL: `data_ops_specialist` who is also `enterprise_admin` or `it_ops` (ROLE-04).
    pub fn update_sql(&self, actor: &Actor, formal: bool) -> Result<(), Refusal> {
        formal_tenant(formal)?;
        let granted = actor.is(Role::DataOpsSpecialist) && actor.is_any(&ADMIN_OR_IT_OPS);
        require(granted, "ROLE-04", actor, "data_ops_specialist together with it_ops or enterprise_admin")
    }

    /// Whether the actor may rename a data center: `enterprise_admin` or `it_ops` (ROLE-06).
    pub fn rename(&self, actor: &Actor, formal: bool) -> Result<(), Refusal> {
        formal_tenant(formal)?;
        require(actor.is_any(&ADMIN_OR_IT_OPS), "ROLE-06", actor, "it_ops or enterprise_admin")
    }

    /// Whether the actor may upload or restore a data center: `enterprise_admin` or `it_ops` (ROLE-07).
    pub fn restore(&self, actor: &Actor, formal: bool) -> Result<(), Refusal> {
        formal_tenant(formal)?;
        require(actor.is_any(&ADMIN_OR_IT_OPS), "ROLE-07", actor, "it_ops or enterprise_admin")
    }
}

/// Refuses what is for formal tenants only (ROLE-01).
pub(super) fn formal_tenant(formal: bool) -> Result<(), Refusal> {
    match formal {
        true => Ok(()),
        false => Err(Refusal::new(ErrorCode::NotFormalTenant, "ROLE-01", "IT operations are for formal tenants")
            .with_limit("formal = true")),
    }
}

fn require(granted: bool, rule: &'static str, actor: &Actor, wanted: &str) -> Result<(), Refusal> {
    if granted {
        return Ok(());
    }
    let detail = format!("user `{}` needs {wanted}", actor.user_id);
    Err(Refusal::new(ErrorCode::ForbiddenRole, rule, detail)
        .with_limit(wanted)
        .with_remedy("an enterprise admin of the company grants roles in the employee list"))
}

/// What an API key is for. A key has a set of these, and one tenant or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Everything, keys included.
    Admin,
    /// Runs the place: everything but keys.
    Operator,
    /// An upstream system: asks for jobs, follows them, cancels and edits them, receives webhooks.
    #[serde(alias = "enqueue")]
    Caller,
    /// Reads: jobs, queues, metrics.
    #[serde(alias = "read")]
    Monitor,
}

/// What a request to the API wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read jobs, their events and explanations.
    ReadJobs,
    /// Enqueue a job.
    Enqueue,
    /// Cancel, edit or signal a job, as the business rules allow.
    ChangeJobs,
    /// Send a dead job back, or say what happened to an unknown one.
    RepairJobs,
    /// Read queues, schedules and workers.
    ReadQueues,
    /// Pause and resume queues.
    PauseQueues,
    /// Set and remove schedules.
    WriteSchedules,
    /// Read a tenant's document.
    ReadTenants,
    /// Write a tenant's document.
    WriteTenants,
    /// Tell that a lease was renewed.
    RenewLeases,
    /// Register, read and replay webhooks.
    Webhooks,
    /// Upload files.
    Upload,
    /// Create, list and revoke API keys.
    Keys,
    /// Read the metrics.
    Metrics,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 14] = [
        Self::ReadJobs,
        Self::Enqueue,
        Self::ChangeJobs,
        Self::RepairJobs,
        Self::ReadQueues,
        Self::PauseQueues,
        Self::WriteSchedules,
        Self::ReadTenants,
        Self::WriteTenants,
        Self::RenewLeases,
        Self::Webhooks,
        Self::Upload,
        Self::Keys,
        Self::Metrics,
    ];
}

impl KeyRole {
    /// Every role of a key.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Caller, Self::Monitor];

    /// The word on the wire and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Caller => "caller",
            Self::Monitor => "monitor",
        }
    }

    /// Whether a key of this role may do it (within its tenant).
    #[must_use]
    pub const fn may(self, permission: Permission) -> bool {
        use Permission::*;
        match self {
            Self::Admin => true,
            Self::Operator => !matches!(permission, Keys),
            Self::Caller => {
                matches!(
                    permission,
                    ReadJobs | Enqueue | ChangeJobs | ReadQueues | ReadTenants | RenewLeases | Webhooks | Upload
                )
            }
            Self::Monitor => matches!(permission, ReadJobs | ReadQueues | ReadTenants | Metrics),
        }
    }

    /// Refuses with `forbidden` unless one of the key's roles allows it (ENG-12).
    pub fn check(roles: &[Self], permission: Permission) -> Result<(), Refusal> {
        if roles.iter().any(|role| role.may(permission)) {
            return Ok(());
        }
        let able: Vec<_> = Self::ALL.iter().filter(|role| role.may(permission)).map(|role| role.as_str()).collect();
        Err(Refusal::new(ErrorCode::Forbidden, "ENG-12", "the API key has no role that allows this")
            .with_limit(format!("one of: {}", able.join(", "))))
    }
}

impl std::str::FromStr for KeyRole {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "admin" => Ok(Self::Admin),
            "operator" => Ok(Self::Operator),
            "caller" | "enqueue" => Ok(Self::Caller),
            "monitor" | "read" => Ok(Self::Monitor),
            _ => Err(format!("`{word}` is not one of admin, operator, caller, monitor")),
        }
    }
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
