package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func source(t *testing.T) rules {
	t.Helper()
	r, err := readRules("rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An alarm without a section leaves the person who is woken alone; a section without an
// alarm promises one that never sounds.
func TestRunbook_HasASectionForEachAlarmAndNoOther(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections, alarms, provoked []string
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(string(page), -1) {
		sections = append(sections, m[1])
	}
	for _, r := range source(t).alarms {
		alarms = append(alarms, r.Alert)
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations.Runbook != want {
			t.Errorf("%s leads to %s, want %s", r.Alert, r.Annotations.Runbook, want)
		}
		if r.Annotations.Summary == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels.Severity) {
			t.Errorf("%s has no summary, or severity %q", r.Alert, r.Labels.Severity)
		}
	}
	for _, s := range scenes {
		provoked = append(provoked, s.alarm)
	}
	if diff := cmp.Diff(alarms, sections); diff != "" {
		t.Errorf("- rules, + runbook:\n%s", diff)
	}
	if diff := cmp.Diff(alarms, provoked); diff != "" {
		t.Errorf("- rules, + scenes:\n%s", diff)
	}
}

// The shortened rules are the rules: nothing but times differs.
func TestShortened_ChangesTimesAlone(t *testing.T) {
	t.Parallel()
	text := source(t).text
	for from, to := range map[string]string{
		"for: 1m": "for: 1000ms", "[5m]": "[5000ms]", "for: 1h": "for: 10000ms", "[1d]": "[10000ms]",
		"max by (job) (failwell_outbox_oldest_seconds) > 30": "max by (job) (failwell_outbox_oldest_seconds) > 0.5",
		`x_seconds{lease="a"}) > 900`:                        `x_seconds{lease="a"}) > 10`,
		`sum(increase(x_seconds_count[5m])) > 20`:            `sum(increase(x_seconds_count[5000ms])) > 20`,
	} {
		if got := shortened(from); got != to {
			t.Errorf("%s became %s, want %s", from, got, to)
		}
	}
	without := func(text string) string {
		return age.ReplaceAllString(period.ReplaceAllString(text, "$1"), "$1")
	}
	if diff := cmp.Diff(without(text), without(shortened(text))); diff != "" {
		t.Error(diff)
	}
	for _, m := range period.FindAllStringSubmatch(shortened(text), -1) {
		if d, err := time.ParseDuration(m[2]); err != nil || d > longest {
			t.Errorf("%s is left", m[0])
		}
	}
}

func TestDashboards_AreThreeWithPanelsThatAsk(t *testing.T) {
	t.Parallel()
	cli.Rules = "rules.yml"
	if n := len(dashboards()); n != 3 {
		t.Errorf("%d dashboards", n)
	}
	for _, file := range dashboards() {
		if shown, err := panelsOf(file); err != nil || len(shown) < 5 {
			t.Errorf("%s: %d queries, %v", file, len(shown), err)
		}
	}
}
