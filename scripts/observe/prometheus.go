package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/api"
	client "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/testenv"
)

// rules are the alarms as they are written, and as text.
type rules struct {
	text   string
	alarms []rule
}

type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      struct{ Severity string }
	Annotations struct{ Summary, Runbook string }
}

func readRules(file string) (r rules, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	var parsed struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	r.text = string(text)
	for _, group := range parsed.Groups {
		r.alarms = append(r.alarms, group.Rules...)
	}
	return r, nil
}

// A minute of the rules is a second here, and nothing is longer than longest.
const (
	faster  = 60
	longest = 10 * time.Second
)

var (
	period = regexp.MustCompile(`(for: |\[)(\d+(?:ms|[smhd]))`)
	age    = regexp.MustCompile(`(_seconds(?:\{[^}]*\})?\)? > )([\d.]+)`) // of a metric that is an age
)

// shortened are the rules with all their times divided: the expressions are those of the
// file, and there is no second copy of them.
func shortened(text string) string {
	text = period.ReplaceAllStringFunc(text, func(found string) string {
		m := period.FindStringSubmatch(found)
		d, err := time.ParseDuration(strings.Replace(m[2], "d", "h", 1))
		if err != nil {
			return found // \d+[smhd] always parses
		}
		if strings.HasSuffix(m[2], "d") {
			d *= 24
		}
		return m[1] + strconv.FormatInt(shorter(d).Milliseconds(), 10) + "ms"
	})
	return age.ReplaceAllStringFunc(text, func(found string) string {
		m := age.FindStringSubmatch(found)
		seconds, _ := strconv.Atoi(m[2])
		return m[1] + strconv.FormatFloat(shorter(time.Duration(seconds)*time.Second).Seconds(), 'f', -1, 64)
	})
}

func shorter(d time.Duration) time.Duration { return min(d/faster, longest) }

// promtool holds the rules against their tests: what takes hours in truth is heard there,
// with the times of the file.
func promtool(ctx context.Context, file string) error {
	dir := filepath.Dir(file)
	for _, args := range [][]string{{"check", "rules", file}, {"check", "config", filepath.Join(dir, "prometheus.yml")}, {"test", "rules", filepath.Join(dir, "rules_test.yml")}} {
		if out, err := exec.CommandContext(ctx, "promtool", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("promtool %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// prometheus is a running one.
type prometheus struct {
	api   client.API
	rules rules
	stop  func()
}

const everySecond = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}\nrule_files: [rules.yml]\nscrape_configs:\n"

func startPrometheus(ctx context.Context, system *stack.Stack, source rules) (*prometheus, error) {
	dir := filepath.Join(system.Dir, "prometheus")
	port, release, err := testenv.HoldPort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	http, err := api.NewClient(api.Config{Address: "http://" + address})
	if err != nil {
		return nil, err
	}
	p := &prometheus{api: client.NewAPI(http), rules: source}
	targets := everySecond
	for name, at := range system.URL {
		if job, _, _ := strings.Cut(name, "-"); job != stack.Sandbox {
			targets += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [%q], labels: {app: failwell}}], relabel_configs: [{target_label: job, replacement: %s}]}\n",
				name, strings.TrimPrefix(at, "http://"), job)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // nothing secret
		return nil, err
	}
	for name, text := range map[string]string{"prometheus.yml": targets, "rules.yml": shortened(source.text)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // nothing secret
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // the path is ours
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), //nolint:noctx // ends by signal
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (scripts/deps.sh prometheus installs it)", err)
	}
	var died error
	ended := make(chan struct{})
	go func() {
		died = cmd.Wait()
		close(ended)
	}()
	p.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = log.Close()
		release()
	}
	for {
		if _, err = p.samples(ctx, `up == 1`); err == nil {
			return p, nil
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("prometheus: %w\n%s", died, text)
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// samples counts the values that a query has; NaN, which is no value, is none.
func (p *prometheus) samples(ctx context.Context, query string) (n int, err error) {
	value, _, _, err := p.api.Query(ctx, query, time.Now())
	vector, _ := value.(model.Vector)
	for _, sample := range vector {
		if sample.Value == sample.Value { // as NaN does not
			n++
		}
	}
	return n, err
}

// states are the alarms that sound, or are about to: by name, "firing" or "pending".
func (p *prometheus) states(ctx context.Context) (map[string]string, error) {
	active, err := p.api.Alerts(ctx)
	states := map[string]string{}
	for _, alert := range active.Alerts {
		if name := string(alert.Labels["alertname"]); states[name] != firing {
			states[name] = string(alert.State)
		}
	}
	return states, err
}

const firing = string(client.AlertStateFiring)

var metric = regexp.MustCompile(`\bfailwell_\w+(\{[^}]*\})?`)

// query is something that must have data.
type query struct{ title, expr string }

// metrics are the series that the rules name: a slip in an `unless` would be heard by
// nothing else.
func (p *prometheus) metrics() (all []query) {
	for _, r := range p.rules.alarms {
		for _, name := range metric.FindAllString(r.Expr, -1) {
			if !strings.Contains(name, `status="401"`) { // there is none before the first
				all = append(all, query{r.Alert, name})
			}
		}
	}
	return all
}
