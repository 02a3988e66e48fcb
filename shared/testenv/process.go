package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// process is a child that does not outlive us.
type process struct {
	args []string
	env  []string // nil: ours
	dir  string
	log  string   // the file of its output
	as   *account // nil: as ourselves

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

// process makes a process that Close ends by sig. What it holds is thrown away anyway.
func (e *Env) process(p process, sig syscall.Signal) *process {
	e.atClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = p.signal(ctx, sig)
	})
	return &p
}

// run starts the process. Where its life is tied to ours it is tied to the thread that
// started it, so a thread of its own stays with it until it ends.
func (p *process) run() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:noctx // it outlives this call
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, p.dir, log, log
	cmd.WaitDelay = time.Second
	p.as.as(cmd)
	Child(cmd)
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer log.Close() //nolint:errcheck // a log of a throw-away server
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // a server that is killed reports that it was
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.cmd, p.done = cmd, done
	return nil
}

func (p *process) ended() bool {
	if p.cmd == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the process and waits until it has ended. SIGKILL goes to its
// group, with all its children that stayed there. PostgreSQL's backends do not: they are
// in sessions of their own, notice that the postmaster is gone, and end.
func (p *process) signal(ctx context.Context, sig syscall.Signal) error {
	if p.ended() {
		return nil
	}
	err := p.pause(false) // paused, it would not hear the signal, and its backends would not see its end
	if err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		err = kill(p.cmd.Process)
	} else {
		err = p.cmd.Process.Signal(sig)
	}
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not end after %s: %w", p.cmd.Path, sig, ctx.Err())
	}
}

// pause stops the process and then its children, or lets them go on the other way round:
// one that runs alone could start another child.
func (p *process) pause(pause bool) error {
	if p.ended() {
		return nil
	}
	pids, sig := append([]int{p.cmd.Process.Pid}, children(p.cmd.Process.Pid)...), Pause
	if !pause {
		slices.Reverse(pids)
		sig = Resume
	}
	for _, pid := range pids {
		child, err := os.FindProcess(pid)
		if err == nil {
			err = child.Signal(sig)
		}
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}

// about returns the end of the log.
func (p *process) about() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1500):])
}
