// Command observe hears every alarm: it starts the whole system and Debian's Prometheus,
// provokes the failure of each alarm of rules.yml, and sees that this alarm sounds and no
// other, and that it falls silent after the repair. It also sees that no panel of the
// dashboards is empty.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

var cli struct {
	Only   []string `help:"Only these alarms: names, separated by commas."`
	Rules  string   `default:"scripts/observe/rules.yml" type:"path" help:"Another file of rules, to see that a wrong one is noticed."`
	Report string   `type:"path" help:"Write the table as Markdown to this file. Only of all alarms."`
}

func main() {
	kong.Parse(&cli, kong.Name("observe"), kong.UsageOnError())
	command.Main("observe", run)
}

// settings shorten what the alarms wait for, or lengthen what would repair a failure before
// it is heard.
var settings = map[string][]string{
	stack.Orders:   {"SAGA_STEP_TIMEOUT=30s", "OUTBOX_TAKEOVER=500ms"},
	"orders-2":     {"MAX_UNFINISHED_ORDERS=25"},
	stack.Payments: {"EVENTS_OVERDUE=1s", "TWOPHASE_TIMEOUT=60s"},
	stack.Ledger:   {"TWOPHASE_TIMEOUT=60s", "WORKERS=1"}, // one, so that one that hangs holds up the queue
}

func run(ctx context.Context) error {
	begun := time.Now()
	source, err := readRules(cli.Rules)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(scenes), func(s scene) bool { return cli.Only != nil && !slices.Contains(cli.Only, s.alarm) })
	if len(chosen) == 0 || cli.Report != "" && cli.Only != nil {
		return fmt.Errorf("no alarm is called %s; --report is for all", strings.Join(cli.Only, " or "))
	}
	if err := promtool(ctx, cli.Rules); err != nil {
		return err
	}
	fmt.Printf("Starting PostgreSQL, RabbitMQ, %s and Prometheus …\n", strings.Join(stack.Processes, ", "))
	system, err := stack.Start(ctx, stack.Options{Out: os.Stdout, IgnoreGiven: true, Env: settings, Replicas: map[string]int{stack.Orders: 2}})
	if err != nil {
		return err
	}
	defer system.Close()
	prom, err := startPrometheus(ctx, system, source)
	if err != nil {
		return err
	}
	defer prom.stop()
	w := &world{Stack: system, shop: shop.New(system.Env()), prom: prom}

	calm := w.underLoad(ctx)
	var all []heard
	for i, s := range chosen {
		h := w.hear(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		all = append(all, h)
		fmt.Printf("%2d/%d  %s\n", i+1, len(chosen), h)
	}
	err = calm
	wrong := 0
	for _, h := range all {
		if h.err != nil {
			err, wrong = errors.Join(err, h.err), wrong+1
		}
	}
	fmt.Printf("%d alarms heard, %d wrong; %.0f s\n", len(all)-wrong, wrong, time.Since(begun).Seconds())
	if err == nil && cli.Report != "" {
		err = os.WriteFile(cli.Report, []byte(report(source, all)), 0o644) //nolint:gosec // documentation
	}
	return err
}

// underLoad works for a while: no alarm may sound, no metric of the rules may be missing,
// and no panel may be empty.
func (w *world) underLoad(ctx context.Context) error {
	fmt.Print("a little of everything is going on …\n")
	done, sounded := make(chan error, 1), map[string]bool{}
	go func() { done <- w.someOfEverything(ctx) }()
	_, err := w.until(ctx, sounded, func(map[string]string) bool { return len(done) > 0 })
	if err == nil {
		err = <-done
	}
	if len(sounded) > 0 {
		err = errors.Join(err, fmt.Errorf("nothing has failed, and these sound: %v", sounded))
	}
	queries, panels := w.prom.metrics(), 0
	for _, file := range dashboards() {
		shown, parsed := panelsOf(file)
		err = errors.Join(err, parsed)
		for _, p := range shown {
			queries, panels = append(queries, p), panels+1
		}
	}
	for _, q := range queries {
		if n, asked := w.prom.samples(ctx, q.expr); asked != nil || n == 0 {
			err = errors.Join(err, fmt.Errorf("%s: no data for %s (%w)", q.title, q.expr, cmp.Or(asked, errEmpty)))
		}
	}
	if err == nil {
		fmt.Printf("no alarm sounds; %d metrics of the rules and %d queries of the dashboards have data\n", len(queries)-panels, panels)
	}
	return err
}

var errEmpty = errors.New("empty")
