package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Command holds a service against the cases, from the command line.
type Command struct {
	Kind string   `enum:"idempotency,edge,webhooks," default:"" help:"What to hold a service of yours against: idempotency, edge or webhooks."`
	List bool     `help:"Print the cases, and run none."`
	Skip []string `help:"Cases that are not for your service: errors-are-problems,…"`

	URL    string   `name:"url" help:"The endpoint: one that takes a key or JSON, or one that receives webhooks."`
	Header []string `sep:"none" help:"Sent with every request: 'Authorization: Bearer …'."`
	Body   string   `help:"A shell command that prints the body of a new request, or of a new webhook. Where a body can be used once only, it prints another one each time."`

	Retention time.Duration `help:"How long your service keeps a key, for the case expiry, which waits for so long. Start it with a short one."`

	Secret   string        `help:"Signs the webhooks: whsec_…"`
	Trigger  string        `help:"A shell command that makes your sender send one webhook to $URL."`
	Listen   string        `default:"127.0.0.1:0" help:"Where the webhooks of your sender are waited for."`
	ListenAs string        `help:"What $URL begins with, when your sender sees us under another address: http://host.docker.internal:9000."`
	Patience time.Duration `default:"60s" help:"How long a try of your sender is waited for."`
}

// Validate is called by kong.
func (c Command) Validate() error {
	for _, id := range c.Skip {
		if !Known(id) {
			return fmt.Errorf("--skip: there is no case %q (--list shows them)", id)
		}
	}
	return nil
}

// Run holds a service against the cases, and fails when one does not hold.
func (c Command) Run(ctx context.Context) error {
	switch {
	case c.List:
		return listCases(os.Stdout)
	case c.Kind == "":
		return errors.New("--kind is missing: idempotency, edge or webhooks?")
	}
	target := &Target{
		URL: c.URL, Header: http.Header{}, Body: c.body, Retention: c.Retention,
		Secret: c.Secret, Trigger: c.trigger, Listen: c.Listen, ListenAs: c.ListenAs, Patience: c.Patience,
	}
	for _, h := range c.Header {
		name, value, _ := strings.Cut(h, ":")
		target.Header.Add(name, strings.TrimSpace(value))
	}
	if c.URL != "" && c.Body == "" || c.Body != "" && c.URL == "" {
		return errors.New("--url and --body go together")
	}
	chosen := map[string][]Case{}
	switch {
	case c.Kind == "idempotency", c.Kind == "edge":
		chosen[c.Kind] = map[string][]Case{"idempotency": Idempotency, "edge": Edge}[c.Kind]
		if c.URL == "" {
			return errors.New("--url is missing")
		}
	case c.URL+c.Trigger == "":
		return errors.New("nothing to test: --url of a receiver, --trigger of a sender, or both")
	case c.Secret == "":
		return errors.New("--secret is missing")
	default:
		if c.URL != "" {
			chosen["receiver"] = Receiver
		}
		if c.Trigger != "" {
			chosen["sender"] = Sender
		}
	}
	all, failed := 0, 0
	for _, what := range []string{"idempotency", "edge", "receiver", "sender"} {
		all += len(chosen[what])
		failed += Check(ctx, os.Stdout, what, target, chosen[what], c.Skip)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases do not hold", failed, all)
	}
	return nil
}

func (c Command) body(ctx context.Context) ([]byte, error) {
	body, err := exec.CommandContext(ctx, "sh", "-c", c.Body).Output() //nolint:gosec // the user's own command
	if err != nil {
		err = fmt.Errorf("--body: %w", err)
	}
	return body, err
}

func (c Command) trigger(ctx context.Context, url string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", c.Trigger) //nolint:gosec // the user's own command
	cmd.Env = append(os.Environ(), "URL="+url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// Check runs the cases and tells how many do not hold. What was not judged is
// shown, and does not count as held.
func Check(ctx context.Context, out io.Writer, what string, t *Target, cases []Case, skip []string) (failed int) {
	for _, each := range cases {
		mark, why := "✓", ""
		if slices.Contains(skip, each.ID) {
			mark, why = "–", "\n    skipped"
		} else if err := each.Run(ctx, t); err != nil {
			mark, why = "✗", "\n    "+err.Error()
			if errors.Is(err, ErrNotJudged) {
				mark = "–"
			} else {
				failed++
			}
		}
		fmt.Fprintf(out, "%s %-20s %-24s %s%s\n", mark, what, each.ID, each.Says, why)
	}
	return failed
}

func listCases(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, list := range Lists {
		fmt.Fprintf(table, "\n%s (--kind %s)\n", list.Title, list.Kind)
		for _, each := range list.Cases {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", each.ID, each.Says, each.Source)
		}
	}
	return table.Flush()
}
