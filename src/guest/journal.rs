//! What the journal that is streamed past the network gives away: that a boot came to its end, where the console does not
//! say so (a console without a login prompt). Pure, as [`super::console`].

/// systemd's own words at the end of a boot (messages "startup finished" and "unit started" of systemd.messages(7)). A user's
/// manager says them too, with another process number.
const ENDS: [&str; 2] = ["Startup finished in ", "Reached target multi-user.target"];

/// The line that shows that a boot came to its end, in a stream whose lines are all of that boot.
pub fn end_of_boot(journal: &str) -> Option<String> {
    let is_end = |line: &&str| {
        // `[   77.505858] systemd[1]: Reached target …`
        let said = line.split_once("] systemd[1]: ").map(|(_, said)| said);
        said.is_some_and(|said| ENDS.iter().any(|words| said.starts_with(words)))
    };
    journal.lines().find(is_end).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(
        "[  107.310673] systemd[1]: Startup finished in 16.476s (kernel) + 1min 30.833s (userspace) = 1min 47.310s.\n",
        true
    )]
    #[case("[  105.286610] systemd[1]: Reached target multi-user.target - Multi-User System.\n", true)]
    #[case("[   89.502425] systemd[718]: Startup finished in 2.662s.\n", false)]
    #[case("[   76.254154] systemd[1]: Reached target sockets.target - Socket Units.\n", false)]
    #[case("[    9.000000] sshd[700]: Startup finished in ] systemd[1]: a log\n", false)]
    #[case("", false)]
    fn the_end_of_a_boot_is_the_system_managers_word(#[case] line: &str, #[case] ends: bool) {
        let stream = format!("[    1.000000] kernel: Linux version 6.12\n{line}");
        assert_eq!(end_of_boot(&stream).is_some(), ends);
    }
}
