package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"example.com/failwell/scripts/bench/figures"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/wait"
)

// process measures the services as processes: memory at rest and under load, and
// the time from their death until they are ready again.
func (b *bench) process(ctx context.Context) error {
	rest := map[string]float64{}
	for _, name := range stack.Services {
		rest[name] = resident(b.System.Pid(name))
	}
	if _, err := b.atRate(ctx, 200, b.Shop); err != nil {
		return err
	}
	for _, name := range stack.Services {
		b.report.add(figures.Row{
			Line: "memory of " + name, Unit: fmt.Sprintf("MB resident; %.0f at rest", rest[name]),
			Ours: resident(b.System.Pid(name)), Beside: "at 200 orders/s", AtMost: 60,
		})
	}
	for _, name := range stack.Services {
		took, err := b.restart(ctx, name)
		if err != nil {
			return err
		}
		b.report.add(figures.Row{Line: "start of " + name, Unit: "seconds", Ours: took.Seconds(), Beside: "from SIGKILL to ready", AtMost: 1})
	}
	return nil
}

// resident is a process's memory in MB, 0 when it cannot be read.
func resident(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	stat, err := p.Stat()
	if err != nil {
		return 0
	}
	return float64(stat.ResidentMemory()) / 1e6
}

// restart kills a service and waits until its successor is ready.
func (b *bench) restart(ctx context.Context, name string) (time.Duration, error) {
	before := b.System.Pid(name)
	begun := time.Now()
	b.System.Signal(name, syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := wait.Until(ctx, 2*time.Millisecond, name+" to come back", func() (bool, error) {
		pid := b.System.Pid(name)
		return pid != 0 && pid != before && b.System.Ready(ctx, name), nil
	})
	return time.Since(begun), err
}

// addProcessorTime adds a line with what an order costs the processors, all processes
// together, the load included.
func (b *bench) addProcessorTime(perOrder cost) {
	var sum float64
	var shares []string
	for _, thing := range slices.Sorted(maps.Keys(perOrder)) {
		if program, ok := strings.CutPrefix(thing, processorOf); ok {
			sum += perOrder[thing]
			shares = append(shares, fmt.Sprintf("%s %.1f", program, perOrder[thing]))
		}
	}
	if perOrder[processorOf+"PostgreSQL"] == 0 {
		b.report.note("The servers run in containers: what an order costs the processors is not known.")
		return
	}
	b.report.add(figures.Row{Line: "order, processor time of all processes", Unit: "ms", Ours: sum, Beside: "load and outside world included", AtMost: 8})
	b.report.note("An order's milliseconds of processor time: %s.", strings.Join(shares, ", "))
}

const processorOf = "processor time of "

// processorTime is what this process and all that it has started have used so far, in
// milliseconds, by program. What a process has used that has ended stands with its parent.
func processorTime() cost {
	processes, _ := procfs.AllProcs()
	stats := map[int]procfs.ProcStat{}
	for _, p := range processes {
		if stat, err := p.Stat(); err == nil { // otherwise it has just ended
			stats[p.PID] = stat
		}
	}
	const tick = 10 // milliseconds: Linux's unit in /proc
	sum := cost{}
	for pid, p := range stats {
		ancestor := pid
		for ancestor != os.Getpid() && ancestor > 0 {
			ancestor = stats[ancestor].PPID
		}
		program, ticks := p.Comm, float64(p.UTime+p.STime)+float64(p.CUTime+p.CSTime)
		switch {
		case ancestor == 0:
			continue // none of ours
		case pid == os.Getpid():
			program, ticks = "the load", float64(p.UTime+p.STime) // without builds and peers
		case program == "postgres":
			program = "PostgreSQL"
		case !slices.Contains(stack.Processes, program):
			program = "RabbitMQ" // Erlang's machine and its small helpers
		}
		sum[processorOf+program] += tick * ticks
	}
	return sum
}
