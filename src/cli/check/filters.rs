//! What filters mean to the netdevs and chardevs that they name.
//!
//! Called by `check`. That a netdev has one cable only, be it a NIC's or a filter's, is `network`'s to see.

use super::{error, netdev_exists, unique_ids};
use crate::cli::config::NetdevKind;
use crate::cli::draft::{Draft, Given};
use crate::cli::error::{CliError, quoted};
use crate::cli::filter_options::{FilterOptions, FilterPlace};
use crate::cli::suggest::did_you_mean;

/// Every filter sits on a netdev, next to a filter that is there before it, and what it names is there.
pub(super) fn check(draft: &Draft) -> Result<(), CliError> {
    unique_ids(&draft.filters, "object", |filter| Some(&filter.id))?;
    unique_ids(&draft.chardevs, "chardev", |chardev| Some(&chardev.id))?;
    for (n, given) in draft.filters.iter().enumerate() {
        let filter = &given.value;
        netdev_exists(draft, given, &filter.netdev)?;
        if let FilterPlace::Before(other) | FilterPlace::Behind(other) = &filter.place {
            let mut earlier = draft.filters[..n].iter().map(|given| &given.value);
            if !earlier.any(|before| before.id == *other && before.netdev == filter.netdev) {
                let problem = format!("netdev {} has no filter {} yet", filter.netdev, quoted(other));
                return Err(error(given, problem, "name one that stands to the left on the command line"));
            }
        }
        filter.kind.devs().iter().try_for_each(|&(key, id)| check_dev(draft, n, given, key, id))?;
    }
    Ok(())
}

/// `indev=` and `outdev=` name a chardev, or a netdev of which no frame finds its way back.
fn check_dev(
    draft: &Draft,
    n: usize,
    given: &Given<FilterOptions>,
    key: &str,
    id: &str,
) -> Result<(), CliError> {
    let refuse = |problem: String, advice: &str| Err(error(given, format!("{key}: {problem}"), advice));
    let before = &draft.filters[..n];
    if is_chardev(draft, id) {
        let first = before.iter().find(|other| names(&other.value, id));
        return match first {
            Some(first) => {
                refuse(format!("the chardev {} is used by '{}'", quoted(id), first.echo), "give each its own")
            }
            None => Ok(()),
        };
    }
    let Some(netdev) = draft.netdevs.iter().find(|netdev| netdev.value.id == id) else {
        let ids = draft.chardevs.iter().map(|chardev| chardev.value.id.as_str());
        let ids = ids.chain(draft.netdevs.iter().map(|netdev| netdev.value.id.as_str()));
        let advice = did_you_mean(id, ids, "add -chardev socket,id=ID,path=PATH,server=on,wait=off");
        return refuse(format!("there is no chardev and no netdev {}", quoted(id)), &advice);
    };
    if matches!(netdev.value.kind, NetdevKind::HubPort(_)) {
        return refuse(
            format!("{} is a port of a hub, by which frames may come back for ever", quoted(id)),
            "name a netdev of another type, or a chardev",
        );
    }
    let branches =
        |other: &&Given<FilterOptions>| other.value.netdev == id && !other.value.kind.devs().is_empty();
    if draft.filters.iter().any(|other| branches(&other)) {
        return refuse(
            format!(
                "a filter-mirror or filter-redirector sits on {}, and frames may go round for ever",
                quoted(id)
            ),
            "name another netdev, or a chardev",
        );
    }
    Ok(())
}

fn is_chardev(draft: &Draft, id: &str) -> bool {
    draft.chardevs.iter().any(|chardev| chardev.value.id == id)
}

fn names(filter: &FilterOptions, id: &str) -> bool {
    filter.kind.devs().iter().any(|(_, dev)| *dev == id)
}

/// The netdevs that filters name, each with how its filter was typed.
pub(super) fn named_netdevs(draft: &Draft) -> impl Iterator<Item = (&str, &str)> {
    let devs = draft
        .filters
        .iter()
        .flat_map(|given| given.value.kind.devs().into_iter().map(|(_, id)| (given.echo.as_str(), id)));
    devs.filter(|(_, id)| !is_chardev(draft, id))
}

/// Chardevs that nothing uses.
pub(super) fn doubts(draft: &Draft) -> impl Iterator<Item = String> {
    let idle = |id: &str| !draft.filters.iter().any(|filter| names(&filter.value, id));
    let idle = draft.chardevs.iter().filter(move |chardev| idle(&chardev.value.id));
    idle.map(|chardev| format!("{}: no filter uses this chardev", chardev.echo))
}
