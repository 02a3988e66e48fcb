package testenv

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// Windows builds and vets all this. What needs a process to be paused, a group of
// processes or another user does not run there: use WSL.

// Pause and Resume are signals that no process of Windows takes.
const (
	Pause  = syscall.Signal(-1)
	Resume = syscall.Signal(-1)
)

// Child does nothing here: a child outlives us.
func Child(*exec.Cmd) {}

func (a *account) as(*exec.Cmd) {}

func kill(p *os.Process) error { return p.Kill() }

func flock(file *os.File, wait bool) error {
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK)
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	return windows.LockFileEx(windows.Handle(file.Fd()), flags, 0, 1, 0, &windows.Overlapped{})
}

func children(int) []int { return nil }
