// Command lab is where the system is broken on purpose.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/command"
)

var cli struct {
	List      listCmd      `cmd:"" help:"The experiments."`
	Run       runCmd       `cmd:"" help:"Run an experiment, or all: each pattern taken away and put back."`
	Without   withoutCmd   `cmd:"" help:"Print the edit that takes a pattern away, a diff of the services."`
	Sweep     sweepCmd     `cmd:"" help:"Crash, fail and delay at every fault point; then audit."`
	Mutants   mutantsCmd   `cmd:"" help:"Take a pattern out of the source, and see that the audit turns red."`
	Record    recordCmd    `cmd:"" help:"Bring the bugs of our track record back, and see that their tests find them."`
	Exercise  exerciseCmd  `cmd:"" help:"Begin an exercise of the course: a copy of the tree with a bug in it."`
	Check     checkCmd     `cmd:"" help:"Check an exercise of the course: red as long as the bug is there."`
	Exercises exercisesCmd `cmd:"" help:"Prove the exercises of the course: each red with its bug, green without it."`
	Chaos     chaosCmd     `cmd:"" help:"Place orders while services, database and broker are being killed; then audit."`
	Conform   conformCmd   `cmd:"" help:"Hold a service, ours or yours, against the published cases for idempotency keys and webhooks."`
}

func main() {
	command.Main("lab", func(ctx context.Context) error {
		return kong.Parse(&cli, kong.Name("lab"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil))).Run()
	})
}
