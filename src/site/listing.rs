//! What `ansible-playbook --list-hosts --list-tags` prints: the plays of each playbook with their hosts and tags.

use std::collections::BTreeSet;

/// A play as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListedPlay {
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    /// Every tag of the play and its tasks.
    pub(super) tags: BTreeSet<String>,
}

/// The plays of each playbook, in the order of the command line.
pub(super) fn parse(stdout: &str) -> Vec<Vec<ListedPlay>> {
    let mut playbooks: Vec<Vec<ListedPlay>> = Vec::new();
    let mut in_hosts = false;
    for line in stdout.lines() {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if indent == 0 && text.starts_with("playbook: ") {
            playbooks.push(Vec::new());
            continue;
        }
        let Some(plays) = playbooks.last_mut() else { continue };
        if indent == 2 && text.starts_with("play #") {
            let (head, tags) = text.split_once("\tTAGS: ").unwrap_or((text, "[]"));
            let name = head.split_once("): ").map_or(head, |(_, name)| name);
            plays.push(ListedPlay { name: name.to_owned(), tags: tag_list(tags), ..ListedPlay::default() });
            in_hosts = false;
            continue;
        }
        let Some(play) = plays.last_mut() else { continue };
        if let Some(tags) = text.strip_prefix("TASK TAGS: ") {
            play.tags.extend(tag_list(tags));
            continue;
        }
        match indent {
            4 => in_hosts = text.starts_with("hosts ("),
            6 if in_hosts => play.hosts.push(text.to_owned()),
            _ => {}
        }
    }
    playbooks
}

fn tag_list(text: &str) -> BTreeSet<String> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    inner.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plays_hosts_and_tags_are_read() {
        let printed = "\nplaybook: v.yml\n\n  play #1 (localhost): localhost\tTAGS: []\n    pattern: ['localhost']\n    hosts (0):\n      TASK TAGS: []\n\nplaybook: site.yml\n\n  play #1 (all): everything (all of it)\tTAGS: [site]\n    pattern: ['all']\n    hosts (2):\n      askari\n      ubongo\n      TASK TAGS: [base, docker_host]\n";
        let tags = ["base", "docker_host", "site"].map(str::to_owned).into();
        assert_eq!(
            parse(printed),
            [
                vec![ListedPlay { name: "localhost".into(), ..ListedPlay::default() }],
                vec![ListedPlay {
                    name: "everything (all of it)".into(),
                    hosts: vec!["askari".into(), "ubongo".into()],
                    tags
                }]
            ]
        );
    }
}
