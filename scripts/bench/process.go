package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/failwell/scripts/stack"
)

// process measures the services as processes: memory at rest and under load, and
// the time from their death until they are ready again.
func (b *bench) process(ctx context.Context) error {
	rest := map[string]float64{}
	for _, name := range stack.Services {
		rest[name] = resident(b.system.Pid(name))
	}
	if _, err := b.atRate(ctx, 200); err != nil {
		return err
	}
	for _, name := range stack.Services {
		b.report.add(row{
			Line: "memory of " + name, Unit: fmt.Sprintf("MB resident; %.0f at rest", rest[name]),
			Ours: resident(b.system.Pid(name)), Beside: "at 200 orders/s", AtMost: 60,
		})
	}
	for _, name := range stack.Services {
		took, err := b.restart(ctx, name)
		if err != nil {
			return err
		}
		b.report.add(row{Line: "start of " + name, Unit: "seconds", Ours: took.Seconds(), Beside: "from SIGKILL to ready", AtMost: 1})
	}
	return nil
}

// resident is a process's memory in MB, 0 when it cannot be read.
func resident(pid int) float64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer file.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "VmRSS:" {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes / 1000
		}
	}
	return 0
}

// restart kills a service and waits until its successor is ready.
func (b *bench) restart(ctx context.Context, name string) (time.Duration, error) {
	before := b.system.Pid(name)
	begun := time.Now()
	b.system.Signal(name, syscall.SIGKILL)
	for {
		if pid := b.system.Pid(name); pid != 0 && pid != before {
			if a, err := b.acme.Get(ctx, b.system.URL[name]+"/readyz"); err == nil && a.Status == http.StatusOK {
				return time.Since(begun), nil
			}
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if time.Since(begun) > 30*time.Second {
			return 0, fmt.Errorf("%s does not come back", name)
		}
	}
}
