//! `maqet template`.

use maqet::operation::TemplateCreate;
use maqet::{ErrorReport, Maqet};

use super::define::{documents, warn};
use super::simple;
use crate::args::{TemplateCreateArgs, TemplateSubcommand};
use crate::exit_code;
use crate::render::Output;

pub(super) async fn run(maqet: &Maqet, command: TemplateSubcommand, output: &Output) -> Result<u8, ErrorReport> {
    match command {
        TemplateSubcommand::Create(args) => create(maqet, args, output).await,
        TemplateSubcommand::Ls(ls) => simple(maqet, ls, output, "reading templates").await,
        TemplateSubcommand::Rm(rm) => simple(maqet, rm, output, "removing templates").await,
    }
}

async fn create(maqet: &Maqet, args: TemplateCreateArgs, output: &Output) -> Result<u8, ErrorReport> {
    let files = documents(maqet, &args.files, output).await?;
    let overrides = &args.overrides;
    let flag = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key}={value}"));
    let flags = flag("memory", &overrides.memory).into_iter().chain(flag("cpu", &overrides.cpu));
    let set: Vec<String> = flags.chain(overrides.set.iter().cloned()).collect();
    let create = TemplateCreate::new(args.name)
        .vm(args.vm)
        .documents(files)
        .set(set)
        .lenient(overrides.lenient)
        .wait(super::lifecycle::with_absolute_paths(args.wait)?)
        .boot_timeout(args.boot_timeout);
    let created = output.progress("making the template", maqet.run(create)).await?;
    warn(&created.warnings, output);
    output.show(&created)?;
    Ok(exit_code::DONE)
}
