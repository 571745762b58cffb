//! One run of `ansible-playbook`: a child with our configuration, its output kept as a log, its tasks heard live.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::ControlDir;
use super::error::SiteError;
use super::preflight::complaint;
use super::record::RecordReader;
use super::results::{Collector, PlaybookReport, TaskEvent};
use super::secrets::SecretsFile;
use super::vars::{HarnessVars, Phase};
use super::workspace::Workspace;
use crate::outcome::{Outcome, TaskResult};
use crate::support::deadline::{Deadline, WaitError};
use crate::support::file;
use crate::support::process::{Finished, Process, ProcessError};

/// How often the record is looked at for what is new.
const LOOK: Duration = Duration::from_millis(100);

/// Why a playbook did not do what it is for. Only [`PlaybookError::TaskFailed`] is the site's own failure; all others
/// mean that we could not find out.
#[derive(Debug, thiserror::Error)]
pub enum PlaybookError {
    /// A task of the site playbook failed on the host under test.
    #[error(
        "task `{}` ({}) failed{}",
        task.task, task.path, task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
    )]
    TaskFailed {
        /// The task.
        task: Box<TaskResult>,
    },
    /// The VM did not answer.
    #[error(
        "the VM was unreachable at task `{}` ({}){}",
        task.task, task.path, task.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
    )]
    Unreachable {
        /// The task.
        task: Box<TaskResult>,
    },
    /// A task wanted to reach a host other than the VM, and was refused.
    #[error(
        "task `{}` ({}) wanted to reach `{wanted}`, and only the VM is in scope of the run: stub it in the host's override, or guard it by `boma_it`",
        task.task, task.path
    )]
    OutOfScope {
        /// The task.
        task: Box<TaskResult>,
        /// The host it wanted to reach.
        wanted: String,
    },
    /// No play was for the host.
    #[error("no play matched host `{host}`: nothing was done, and that is never a pass")]
    NoHostMatched {
        /// The host.
        host: String,
    },
    /// Plays there were, and no task ran on the host.
    #[error(
        "no task ran on host `{host}`: nothing was done, and that is never a pass (do the tags select anything?)"
    )]
    NothingRan {
        /// The host.
        host: String,
    },
    /// Ansible could not load the playbook.
    #[error("ansible-playbook could not begin ({exit})\n{said}")]
    BadPlaybook {
        /// Its exit status in words.
        exit: String,
        /// What it said.
        said: String,
    },
    /// Ansible ended in a way that what it recorded does not explain.
    #[error(
        "ansible-playbook ended with {exit}{}, and no task's failure explains it\n{said}",
        task.as_deref().map(|t| format!(" in or after task `{t}`")).unwrap_or_default()
    )]
    Died {
        /// Its exit status in words.
        exit: String,
        /// The task that was begun last.
        task: Option<String>,
        /// What it said.
        said: String,
    },
    /// The record of tasks is missing or incomplete.
    #[error("the record of tasks cannot be trusted: {what}")]
    NoRecord {
        /// What is wrong with it.
        what: String,
    },
    /// The deadline passed or we were interrupted; Ansible was ended.
    #[error("ansible-playbook was ended{}", task.as_deref().map(|t| format!(" in task `{t}`")).unwrap_or_default())]
    Ended {
        /// The task that was begun last.
        task: Option<String>,
        /// Why.
        #[source]
        source: WaitError,
    },
    /// `ansible-playbook` could not be run.
    #[error("cannot run ansible-playbook")]
    Process(#[source] ProcessError),
    /// The workspace could not be used.
    #[error(transparent)]
    Workspace(#[from] SiteError),
}

impl PlaybookError {
    /// What it makes of the run.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::TaskFailed { .. } => Outcome::Failed,
            Self::Ended { source: WaitError::Interrupted(_), .. } => Outcome::Interrupted,
            _ => Outcome::Errored,
        }
    }
}

impl Workspace {
    /// Runs the playbook of `phase` to its end. In the workspace's folder, `<phase>.log` has what Ansible printed and
    /// `<phase>.tasks.jsonl` the record of its tasks; those of an earlier run of the same phase are replaced. The
    /// whole run is booked as waiting.
    ///
    /// The log is Ansible's own: ansible-core 2.19 prints the message of a failed action there, `no_log` or not. The
    /// record and what is told of it never have one. Neither has a secret of this process in it; what the plugin says
    /// comes over a pipe outside of the workspace, and is written down here.
    ///
    /// The secrets are in a file of the workspace while Ansible runs, and gone when this returns.
    ///
    /// For `verify.yml`, failed tasks are no error here: see [`super::verification`].
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
        remove(&log)?;
        let secrets = self.hand_over()?;
        let control = ControlDir::create(&self.file("bin/ssh"))
            .map_err(|source| SiteError::Io { path: std::env::temp_dir(), source })?;
        let pipe = control.path().join(format!("{}.tasks.jsonl", phase.as_str()));
        let mut intake = RecordReader::open(&pipe, &record)
            .map_err(|source| SiteError::Io { path: record.clone(), source })?;
        let secrets_file = secrets.as_ref().map(SecretsFile::path);
        let mut process = self
            .playbook(vars, phase, control.path(), secrets_file)?
            .env("BOMA_IT_RECORD", &pipe)
            .log_to(log);
        if phase.is_verify() {
            process = process.env("BOMA_IT_DECLARE", &self.host).arg(&self.site.verify);
        } else {
            if !self.site.roles.is_empty() {
                process = process.arg("--tags").arg(self.site.roles.join(","));
            }
            process = process.arg(&self.site.playbook);
        }
        let started = Instant::now();
        let mut collector = Collector::new(&self.host, phase, &self.roots());
        let ended =
            deadline.time_wait(|| self.follow(process, deadline, &mut intake, &mut collector, on_event))?;
        let finished = match ended {
            Ok(finished) => finished,
            Err(ProcessError::Ended { source, .. }) => {
                let task = collector.last_task().map(str::to_owned);
                return Err(PlaybookError::Ended { task, source });
            }
            Err(error) => return Err(PlaybookError::Process(error)),
        };
        let exit = (!finished.status.success()).then(|| words(finished.status));
        collector.conclude(exit.as_deref(), &complaint(&finished), started.elapsed().as_secs_f64())
    }

    /// Runs the child on a thread of its own, and hears its record on this one.
    fn follow(
        &self,
        process: Process,
        deadline: &Deadline,
        intake: &mut RecordReader,
        collector: &mut Collector,
        on_event: &mut dyn FnMut(TaskEvent),
    ) -> Result<Result<Finished, ProcessError>, PlaybookError> {
        let mut hear = || -> Result<(), PlaybookError> {
            let lines =
                intake.lines().map_err(|error| PlaybookError::NoRecord { what: error.to_string() })?;
            for event in lines.iter().filter_map(|line| collector.take(line)) {
                on_event(event);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let (sender, ended) = mpsc::channel();
            scope.spawn(move || {
                // The receiver outlives this thread: the scope joins it.
                let _ = sender.send(process.run(deadline));
            });
            loop {
                match ended.recv_timeout(LOOK) {
                    Ok(result) => {
                        hear()?;
                        return Ok(result);
                    }
                    Err(RecvTimeoutError::Timeout) => hear()?,
                    Err(RecvTimeoutError::Disconnected) => {
                        let what = "the thread that ran Ansible is gone".to_owned();
                        return Err(PlaybookError::NoRecord { what });
                    }
                }
            }
        })
    }

    /// The folders that task paths are told relative to: what holds the site, and what holds `harness/`.
    fn roots(&self) -> Vec<&Path> {
        let verify = self.site.verify.parent().and_then(Path::parent);
        [self.site.dir.parent(), verify]
            .into_iter()
            .flatten()
            .filter(|path| path.parent().is_some())
            .collect()
    }
}

fn remove(path: &Path) -> Result<(), SiteError> {
    let io = |source| SiteError::Io { path: path.to_owned(), source };
    file::remove_if_exists(path).map(drop).map_err(io)
}

/// An exit status with what Ansible means by it.
fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(1), _) => "exit status 1 (error)".to_owned(),
        (Some(2), _) => "exit status 2 (a task failed, or a bad option)".to_owned(),
        (Some(4), _) => "exit status 4 (unreachable, or the playbook cannot be parsed)".to_owned(),
        (Some(99), _) => "exit status 99 (interrupted)".to_owned(),
        (Some(250), _) => "exit status 250 (unexpected exception)".to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
