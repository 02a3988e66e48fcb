// Package figures is what the benchmark has measured, as it is written for machines and
// shown on pages.
package figures

import (
	"fmt"
	"strings"
	"time"
)

// Row is a line: a rate beside another, or a latency or a size beside its bound.
type Row struct {
	Line   string        `json:"line"`
	Unit   string        `json:"unit"`
	Ours   float64       `json:"ours,omitempty"`
	P50    time.Duration `json:"p50_ns,omitempty"`
	P99    time.Duration `json:"p99_ns,omitempty"`
	Beside string        `json:"beside,omitempty"`
	Theirs float64       `json:"theirs,omitempty"`
	Min    float64       `json:"ratio_min,omitempty"`
	Median float64       `json:"ratio_median,omitempty"`
	Max    float64       `json:"ratio_max,omitempty"`

	Target    float64       `json:"target_ratio,omitempty"`
	MostRatio float64       `json:"target_ratio_at_most,omitempty"`
	AtMost    float64       `json:"target_at_most,omitempty"`
	LimitP50  time.Duration `json:"target_p50_ns,omitempty"`
	LimitP99  time.Duration `json:"target_p99_ns,omitempty"`
}

func (r Row) ratio() string {
	if r.Median == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s to %s)", Short(r.Median), Short(r.Min), Short(r.Max))
}

func (r Row) target() string {
	say := func(met bool, format string, target any) string {
		if met {
			return fmt.Sprintf(format+" met", target)
		}
		return fmt.Sprintf(format+" missed", target)
	}
	switch {
	case r.Target > 0:
		return say(r.Median >= r.Target, "≥ %s", Short(r.Target))
	case r.MostRatio > 0:
		return say(r.Median <= r.MostRatio, "ratio ≤ %s", Short(r.MostRatio))
	case r.AtMost > 0:
		return say(r.Ours <= r.AtMost, "≤ %s", Short(r.AtMost))
	case r.LimitP50 > 0:
		return say(r.P50 <= r.LimitP50, "p50 ≤ %v", r.LimitP50)
	case r.LimitP99 > 0:
		return say(r.P99 <= r.LimitP99, "p99 ≤ %v", r.LimitP99)
	}
	return ""
}

// Cells are the row in a table under Head.
func (r Row) Cells() []string {
	return []string{r.Line, Number(r.Ours), r.Unit, Latency(r.P50), Latency(r.P99), r.Beside, Number(r.Theirs), r.ratio(), r.target()}
}

// Head is what stands above the columns.
var Head = []string{"what", "ours", "unit", "p50", "p99", "beside", "theirs", "ratio (min to max)", "target"}

// Report is all of it.
type Report struct {
	Rows  []Row    `json:"rows"`
	Notes []string `json:"notes"`
}

// Number is short below a hundred, and has separators from a thousand on. Zero, which was
// not measured, is nothing.
func Number(f float64) string {
	switch {
	case f == 0:
		return ""
	case f < 100:
		return Short(f)
	}
	return Thousands(int(f))
}

// Short has two digits behind the point, unless both are zero.
func Short(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.2f", f), ".00") }

// Thousands has separators.
func Thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Latency is in milliseconds. Zero, which was not measured, is nothing.
func Latency(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
