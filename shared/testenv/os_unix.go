//go:build unix

package testenv

import (
	"os"
	"os/exec"
	"syscall"
)

// Pause and Resume stop a process where it stands, and let it go on.
const (
	Pause  = syscall.SIGSTOP
	Resume = syscall.SIGCONT
)

// Child gives a command a process group of its own, so that Ctrl-C in the terminal
// reaches only us, and on Linux ties its life to ours: see dieWithUs.
func Child(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithUs(cmd.SysProcAttr)
}

// as makes a command run as another user; nil: as ourselves.
func (a *account) as(cmd *exec.Cmd) {
	if a != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
	}
}

// kill ends a child of ours with all of its children that stayed in its group.
func kill(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// flock locks a file until it is closed or we die; without wait it fails at once when
// another process holds the lock.
func flock(file *os.File, wait bool) error {
	if wait {
		return syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
	}
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
