//! The TPM of a machine.

/// Returns the device that connects a TPM 2.0 to machines of an architecture, as QEMU names it; `None` if there is none.
///
/// The names are those of QEMU 7.2; Windows and Linux have drivers for both.
pub fn tpm_device(architecture: &str) -> Option<&'static str> {
    match architecture {
        "x86_64" | "i386" => Some("tpm-crb"),
        "aarch64" | "arm" | "riscv64" | "riscv32" => Some("tpm-tis-device"),
        "ppc64" => Some("tpm-spapr"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_tpm_device_depends_on_the_architecture() {
        let devices = ["x86_64", "i386", "aarch64", "riscv64", "ppc64", "m68k", ""].map(tpm_device);

        let crb = Some("tpm-crb");
        let tis = Some("tpm-tis-device");
        assert_eq!(devices, [crb, crb, tis, tis, Some("tpm-spapr"), None, None]);
    }
}
