//! What keeps QEMU from a port.

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::port::{ImageUser, PortObstacle, PortUser};
use maqet_domain::qmp::wording::{Endpoint, Names};

use super::Diagnosis;
use crate::App;
use crate::start::image_owner::{ImageOwner, image_owner};

impl Diagnosis<'_> {
    /// Returns what keeps QEMU from a port.
    pub(super) async fn port(&self, endpoint: Option<Endpoint>, names: &Names<'_>) -> (String, Explanation) {
        let message = self.recognized.message;
        let unknown = Explanation::new(message.code, message.fault)
            .hint("choose another port; as the host port of a `forward`, 0 takes a free one");
        let Some(endpoint) = endpoint else { return (self.recognized.cause(names), unknown) };
        match self.app.ports.host.port_obstacle(&endpoint) {
            Some(obstacle) => port_obstacle(self.app, &endpoint, obstacle).await,
            // QEMU, which is gone, had it itself.
            None if self.listeners(&endpoint) > 1 => (
                format!("it uses {endpoint} twice"),
                Explanation::new("network.port-conflict", Fault::Usage)
                    .hint("choose another port for one of the two, under `network`, `arguments` or `args`"),
            ),
            None => (format!("{endpoint} could not be used, and is free now"), unknown.hint("try again")),
        }
    }

    /// Returns the port that the switch of the message could not listen at, of those that it has.
    pub(super) fn listening_port(&self) -> Option<Endpoint> {
        let all = self.recognized.switch.as_deref().map(Endpoint::of_switch).unwrap_or_default();
        let is_obstructed = |at: &&Endpoint| self.app.ports.host.port_obstacle(at).is_some() || self.listeners(at) > 1;
        all.iter().find(is_obstructed).or(all.first()).copied()
    }

    /// Returns how many switches, of QEMU and of the helpers before it, listen at a port.
    fn listeners(&self, endpoint: &Endpoint) -> usize {
        let rules = self.command_line.helpers().iter().flat_map(|helper| helper.args.windows(2));
        let rules = rules.filter_map(|pair| Endpoint::of_rule(&pair.join(" ")));
        let listeners = Endpoint::of_args(self.command_line.args()).into_iter().chain(rules);
        listeners.filter(|other| other.overlaps(endpoint)).count()
    }
}

/// Returns who has a port or a socket, and how to stop it; `find` is a command that shows it.
pub(in crate::start) async fn user_and_cure(app: &App, user: Option<PortUser>, find: &str) -> (String, String) {
    let user = user.map(|user| ImageUser { pid: user.pid, program: user.program });
    match (image_owner(app, user.as_ref()).await, &user) {
        (ImageOwner::Vm(vm), _) => (format!("VM `{vm}`"), format!("stop it with `maqet stop {vm}`")),
        (_, Some(user)) => {
            (format!("`{}` (process {})", user.program.escape_debug(), user.pid), format!("stop process {}", user.pid))
        }
        (_, None) => ("a process of another user".to_owned(), format!("find it with `{find}`")),
    }
}

/// Returns what keeps a program from a port, and what helps.
pub(in crate::start) async fn port_obstacle(
    app: &App,
    endpoint: &Endpoint,
    obstacle: PortObstacle,
) -> (String, Explanation) {
    match obstacle {
        PortObstacle::InUse(user) => {
            let explanation = Explanation::new("host.port-in-use", Fault::Busy);
            let find = format!("sudo ss -lnup '( sport = :{0} )'; sudo ss -lntp '( sport = :{0} )'", endpoint.port);
            let (by, stop) = user_and_cure(app, user, &find).await;
            let other = "choose another port; as the host port of a `forward`, 0 takes a free one";
            (format!("{endpoint} is in use by {by}"), explanation.hint(stop).hint(other))
        }
        PortObstacle::Privileged => (
            format!("{endpoint} is one of the low ports, which only root may use"),
            Explanation::new("host.port-refused", Fault::Host)
                .hint("choose a port of 1024 or more")
                .hint(format!("permit it: `sudo sysctl net.ipv4.ip_unprivileged_port_start={}`", endpoint.port)),
        ),
        PortObstacle::NoAddress => (
            format!("no network interface of the host has the address {}", endpoint.address),
            Explanation::new("host.address-not-found", Fault::Host)
                .hint("use 127.0.0.1, or 0.0.0.0 for all interfaces; `ip address` lists the addresses"),
        ),
    }
}
