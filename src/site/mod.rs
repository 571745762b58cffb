//! Floor 3, Ansible: transient inventory, playbook runs, task results.
