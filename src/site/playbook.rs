//! One run of `ansible-playbook`: a child process with the harness's configuration. Its output is kept as a log, and its tasks
//! are reported while it runs.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::ansible::{describe_exit, error_text};
use super::error::{PlaybookError, SiteError};
use super::playbooks::missed;
use super::record::RecordReader;
use super::results::{Collector, PlaybookReport, TaskEvent};
use super::secrets::SecretsFile;
use super::ssh::ControlDir;
use super::vars::{HarnessVars, Phase};
use super::workspace::Workspace;
use crate::catalog::plan::PlaysForNobody;
use crate::support::deadline::Deadline;
use crate::support::file::remove_if_exists;
use crate::support::process::{Finished, Process, ProcessError};

/// How often the record is read while Ansible runs.
const INTERVAL: Duration = Duration::from_millis(100);

impl Workspace {
    /// Runs the playbook of `phase` to its end. In the workspace's folder, `<phase>.log` has Ansible's output and
    /// `<phase>.tasks.jsonl` the record of its tasks; those of an earlier run of the phase are replaced. All of it counts as
    /// waiting.
    ///
    /// The log is Ansible's own: ansible-core 2.19 prints the message of a failed action there, with `no_log` too. The record
    /// never has such a message. Neither has a secret of this process in it: the plugin writes to a pipe outside the
    /// workspace, and its lines are redacted before they are written to the record.
    ///
    /// The file with the secrets exists only while Ansible runs.
    ///
    /// A failed task of `verify.yml` is not an error here: see [`super::verification`].
    ///
    /// # Errors
    /// [`PlaybookError`].
    pub fn run(
        &self,
        phase: Phase,
        vars: &HarnessVars,
        deadline: &Deadline,
        on_event: &mut dyn FnMut(TaskEvent),
    ) -> Result<PlaybookReport, PlaybookError> {
        let [log, record] = ["log", "tasks.jsonl"].map(|end| self.file(&format!("{}.{end}", phase.as_str())));
        remove_if_exists(&log).map_err(SiteError::io(&log))?;
        let secrets = self.write_secrets()?;
        let control = ControlDir::create(&self.file("bin/ssh"))?;
        let pipe = control.path().join("tasks.jsonl");
        let mut reader = RecordReader::open(&pipe, &record).map_err(SiteError::io(&record))?;
        let arguments =
            self.arguments(vars, phase, control.path(), secrets.as_ref().map(SecretsFile::path))?;
        let mut process =
            self.program("ansible-playbook").args(arguments).env("BOMA_IT_RECORD", &pipe).log_to(log);
        if phase.is_verify() {
            process = process.env("BOMA_IT_DECLARE", &self.host).arg(&self.site.verify);
        } else {
            if !self.site.roles.is_empty() {
                process = process.arg("--tags").arg(self.site.roles.join(","));
            }
            process = process.arg(&self.site.playbook);
        }
        let started = Instant::now();
        let mut collector = Collector::new(&self.host, &self.roots());
        let mut read = || -> Result<(), PlaybookError> {
            let lines = reader.lines().map_err(|error| PlaybookError::NoRecord(error.to_string()))?;
            lines.iter().filter_map(|line| collector.add(line)).for_each(&mut *on_event);
            Ok(())
        };
        let finished = deadline.time_wait(|| run_and_read(process, deadline, &mut read))?;
        let finished = match finished {
            Ok(finished) => finished,
            Err(ProcessError::Ended { source, .. }) => {
                return Err(PlaybookError::Stopped { task: collector.last_task(), source });
            }
            Err(error) => return Err(PlaybookError::Process(error)),
        };
        let exit = (!finished.status.success()).then(|| describe_exit(finished.status));
        let seconds = started.elapsed().as_secs_f64();
        let mut report = collector.conclude(phase, exit.as_deref(), &error_text(&finished), seconds)?;
        let [site, verify] = &self.plays;
        let missed = missed(if phase.is_verify() { verify } else { site }, &report.plays)?;
        let is_error = phase.is_verify() || self.site.plays_for_nobody == PlaysForNobody::Error;
        if let Some(play) = missed.first().filter(|_| is_error) {
            return Err(PlaybookError::PlayForNobody(play.clone()));
        }
        report.notes = missed;
        Ok(report)
    }
}

/// Runs `process` on a thread of its own, and calls `read` on this one until the process has ended.
fn run_and_read(
    process: Process,
    deadline: &Deadline,
    read: &mut dyn FnMut() -> Result<(), PlaybookError>,
) -> Result<Result<Finished, ProcessError>, PlaybookError> {
    std::thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        scope.spawn(move || {
            // Sending cannot fail: the scope keeps the receiver until this thread has ended.
            let _ = sender.send(process.run(deadline));
        });
        loop {
            let result = ended.recv_timeout(INTERVAL);
            read()?;
            match result {
                Ok(finished) => return Ok(finished),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PlaybookError::NoRecord("the thread that ran Ansible is gone".to_owned()));
                }
            }
        }
    })
}
