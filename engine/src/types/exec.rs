//! `POST /containers/{id}/exec` and `POST /exec/{id}/start`: api/swagger.yaml, `ExecConfig`, `ExecStartConfig`.

use crate::error::DecodeError;
use crate::wire::{Text, body, decode_json};

body! {
    /// A process to run in a container.
    pub struct ExecCreate<'a> {
        /// The user that it runs as; empty: the container's.
        user: Text<'a> = "User",
        /// With all capabilities.
        privileged: bool = "Privileged",
        /// Give it a terminal.
        tty: bool = "Tty",
        /// Rows and columns of the terminal (1.42).
        console_size: [u32; 2] = "ConsoleSize",
        /// Attach standard input.
        attach_stdin: bool = "AttachStdin",
        /// Attach standard error.
        attach_stderr: bool = "AttachStderr",
        /// Attach standard output.
        attach_stdout: bool = "AttachStdout",
        /// The keys that detach.
        #[serde(alias = "detachKeys")] // aiodocker's spelling; Go folds it to this one
        detach_keys: Text<'a> = "DetachKeys",
        /// Environment, `KEY=value` (1.25).
        env: Vec<Text<'a>> = "Env",
        /// The directory that it starts in (1.35).
        working_dir: Text<'a> = "WorkingDir",
        /// The command.
        cmd: Vec<Text<'a>> = "Cmd",
        ; drop {
            detach = "Detach",
            container = "Container",
            container_id = "containerId",
        }
    }
}

body! {
    /// How an exec is started.
    pub struct ExecStart {
        /// Do not attach to it.
        detach: bool = "Detach",
        /// It has a terminal.
        tty: bool = "Tty",
        /// Rows and columns of the terminal (1.42).
        console_size: [u32; 2] = "ConsoleSize",
        ; drop {
            hijack = "hijack",
            stdin = "stdin",
            stdout = "stdout",
            stderr = "stderr",
            stream = "stream",
        }
    }
}

/// Reads an exec. Engines keep one until its container is gone, whether it is started or not.
///
/// # Errors
/// Something in it is not understood, or longer than a kernel would run.
pub(crate) fn decode_exec(body: &[u8]) -> Result<ExecCreate<'_>, DecodeError> {
    if body.len() > MOST_EXEC {
        return Err(DecodeError::Body { at: String::new(), why: format!("an exec of more than {MOST_EXEC} bytes") });
    }
    let exec: ExecCreate<'_> = decode_json(body)?;
    for (list, texts) in [("Env", &exec.env), ("Cmd", &exec.cmd)] {
        if let Some(at) = texts.iter().flatten().position(|text| text.len() >= MAX_ARG_STRLEN) {
            return Err(DecodeError::Body { at: format!("{list}[{at}]"), why: format!("{MAX_ARG_STRLEN} bytes or more, which no kernel runs") });
        }
    }
    Ok(exec)
}

/// Most bytes of an exec.
const MOST_EXEC: usize = 256 << 10;
/// Bytes of an argument, or of a variable, with the zero that ends it (include/uapi/linux/binfmts.h: 32 pages).
const MAX_ARG_STRLEN: usize = 128 << 10;
