//! `template`: VMs that have booted, kept for forks.

mod create;
mod ls;
pub(super) mod making;
mod rm;

pub use self::create::{TemplateCreate, TemplateCreated};
pub use self::ls::{TemplateList, TemplateLs, TemplateSummary};
pub use self::rm::{TemplateRemoved, TemplateRm};
