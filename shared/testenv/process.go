package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that does not outlive us.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

// startProcess starts cmd with its output in the file at logPath. The kernel
// kills it when we die, however we die. That is tied to the thread that
// started it, so a thread of its own stays with it until it ends.
func startProcess(cmd *exec.Cmd, logPath string, as *syscall.Credential) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer log.Close() //nolint:errcheck // a log of a throw-away server
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // a server that is killed reports that it was
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the process (group: to all its children that stayed in
// its group as well) and waits until it has ended.
func (p *process) signal(ctx context.Context, sig syscall.Signal, group bool) error {
	pid := p.cmd.Process.Pid
	if group {
		pid = -pid
	}
	if !p.ended() {
		if err := syscall.Kill(pid, sig); err != nil {
			return err
		}
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not end after %s: %w", p.cmd.Path, sig, ctx.Err())
	}
}

// tail returns the end of a log, for the error message of a server that did not come up.
func tail(path string) string {
	const most = 1500
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}
