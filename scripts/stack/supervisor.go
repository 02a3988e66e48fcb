package stack

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"example.com/failwell/shared/testenv"
)

// A process that dies is started again at once: recovery is what we want to
// see. One that dies within a second of its start, again and again, is broken,
// and is given a pause.
const (
	youngAge   = time.Second
	youngPause = 200 * time.Millisecond
)

// supervisor keeps one process alive, the way `restart: unless-stopped` does.
type supervisor struct {
	name, binary string
	env          []string
	logPath      string
	lives        func(Life) // nil: not told

	mu       sync.Mutex
	cmd      *exec.Cmd // nil between two lives
	stopping bool
	starts   int
	lastExit int           // exit status of the last life, -1 after a signal
	idle     chan struct{} // closed when the supervisor has ended
}

func (s *supervisor) run() error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // for the user who runs the demo
	if err != nil {
		return fmt.Errorf("stack: log of %s: %w", s.name, err)
	}
	s.idle = make(chan struct{})
	go func() {
		// A child's life is tied to the thread that starts it: were that to end, the
		// kernel would kill the service.
		runtime.LockOSThread()
		defer close(s.idle)
		defer log.Close() //nolint:errcheck // nothing is written to it by us
		for {
			born := time.Now()
			if !s.live(log) {
				return
			}
			if time.Since(born) < youngAge {
				time.Sleep(youngPause)
			}
		}
	}()
	return nil
}

// live starts the process and waits until it dies. It returns false when it
// shall not be started again.
func (s *supervisor) live(log *os.File) bool {
	cmd := exec.Command(s.binary) //nolint:noctx // ends by signal
	cmd.Env = s.env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	testenv.Child(cmd) // Ctrl-C reaches only us, and we stop the services in order

	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return false
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(log, "stack: start %s: %v\n", s.name, err)
		s.mu.Unlock()
		return true
	}
	s.cmd = cmd
	s.starts++
	s.mu.Unlock()
	s.tell(Life{Pid: cmd.Process.Pid})

	_ = cmd.Wait() // how it died is in its log
	s.tell(Life{Pid: cmd.Process.Pid, End: cmd.ProcessState.String()})

	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = nil
	s.lastExit = cmd.ProcessState.ExitCode()
	return !s.stopping
}

func (s *supervisor) tell(l Life) {
	if s.lives != nil {
		l.Name, l.At = s.name, time.Now()
		s.lives(l)
	}
}

// signal sends sig to the process; false when it is not alive at the moment.
func (s *supervisor) signal(sig syscall.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd != nil && s.cmd.Process.Signal(sig) == nil
}

// stop ends the process for good: politely, then, after patience, not.
func (s *supervisor) stop(patience time.Duration) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	if s.idle == nil {
		return // never started
	}
	s.signal(testenv.Resume) // a paused process would not hear the next one
	s.signal(syscall.SIGTERM)
	select {
	case <-s.idle:
	case <-time.After(patience):
		s.signal(syscall.SIGKILL)
		<-s.idle
	}
}
