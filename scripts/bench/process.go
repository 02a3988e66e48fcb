package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	if _, err := b.atRate(ctx, 200, b.acme); err != nil {
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

// addProcessorTime adds a line with what an order costs the processors, all processes
// together, the load included.
func (b *bench) addProcessorTime(perOrder cost) {
	if perOrder[processorOf+"PostgreSQL"] == 0 {
		b.report.note("The servers run in containers: their processor time is not known here.")
		return
	}
	var sum float64
	var shares []string
	for _, program := range slices.Sorted(maps.Keys(perOrder)) {
		if name, ok := strings.CutPrefix(program, processorOf); ok {
			sum += perOrder[program]
			shares = append(shares, fmt.Sprintf("%s %.1f", name, perOrder[program]))
		}
	}
	b.report.add(row{Line: "order, processor time of all processes", Unit: "ms", Ours: sum, Beside: "load and outside world included", AtMost: 8})
	b.report.note("An order's milliseconds of processor time: %s.", strings.Join(shares, ", "))
}

// processorOf begins the names of processor time in a cost.
const processorOf = "processor time of "

// processorTime is what each program has used so far, in milliseconds: this one and all
// that it has started. What a process has used that has ended stands with its parent.
func processorTime() cost {
	type process struct {
		program string
		parent  int
		used    float64
	}
	const tick = 10 // milliseconds, as Linux counts them for /proc
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the kernel's
		open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		if err != nil || open < 0 {
			continue // it has ended
		}
		var values [15]float64
		for i, field := range strings.Fields(string(text[end+1:]))[:len(values)] {
			values[i], _ = strconv.ParseFloat(field, 64) // the first is a letter, and not used
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		p := process{program: string(text[open+1 : end]), parent: int(values[1]), used: tick * (values[11] + values[12] + values[13] + values[14])}
		if pid == os.Getpid() {
			p.program, p.used = "the load", tick*(values[11]+values[12]) // without builds and peers
		}
		all[pid] = p
	}
	sum := cost{}
	for pid, p := range all {
		for pid != os.Getpid() && pid > 1 {
			pid = all[pid].parent
		}
		if pid != os.Getpid() {
			continue // none of ours
		}
		switch {
		case p.program == "postgres":
			p.program = "PostgreSQL"
		case p.program != "the load" && !slices.Contains(stack.Processes, p.program):
			p.program = "RabbitMQ" // Erlang's machine and its small helpers
		}
		sum[processorOf+p.program] += p.used
	}
	return sum
}
