package process_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/process"
)

// TestMain is the service, in a process that a test has started.
func TestMain(m *testing.M) {
	if os.Getenv("SERVICE") != "" {
		process.Main("hanging", func(ctx context.Context, _ config.Common, _ *slog.Logger) error {
			_, _ = os.Stdout.WriteString("ready\n")
			<-ctx.Done()
			select {} // as closing a pool of connections does, to a server that does not answer
		})
		return
	}
	os.Exit(m.Run())
}

func start(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd, log := exec.CommandContext(t.Context(), os.Args[0]), &bytes.Buffer{} //nolint:gosec // this test binary
	cmd.Env = []string{"SERVICE=1", "DATABASE_URL=postgres://127.0.0.1/none"}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatalf("not ready: %v %s", err, log)
	}
	return cmd, log
}

func TestMain_StopEndsWhateverHangs(t *testing.T) {
	t.Parallel()
	cmd, log := start(t)
	begin := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(begin); took > 15*time.Second || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended after %s with %v", took, err)
	}
	if !bytes.Contains(log.Bytes(), []byte("has not stopped within")) {
		t.Errorf("it does not say why: %s", log)
	}
}

func TestMain_SecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	cmd, _ := start(t)
	begin := time.Now()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-ended:
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("ended after %s", took)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
