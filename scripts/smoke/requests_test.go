package smoke

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	setting  = regexp.MustCompile(`(?m)^@(\w+) = (.*)$`)
	expects  = regexp.MustCompile(`^# expect (\d+) ?(.*)$`)
	nameLine = regexp.MustCompile(`^# @name (\w+)$`)
	variable = regexp.MustCompile(`{{(\w+)}}`)
	answerOf = regexp.MustCompile(`{{(\w+)\.response\.body\.\$\.(\w+)}}`)
)

// request is one of docs/requests.http, with every variable replaced.
type request struct {
	title, name, method, url, body string
	header                         http.Header
	status                         int
	says                           string // a part of the answer's body, or one of its headers
}

// parse reads one block as the editors read it: comments, the request line, headers, an
// empty line, the body.
func parse(t *testing.T, block string) request {
	t.Helper()
	head, body, _ := strings.Cut(block, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	r := request{title: lines[0], header: http.Header{}, body: strings.TrimSpace(body)}
	for _, line := range lines[1:] {
		if m := expects.FindStringSubmatch(line); m != nil {
			r.status, _ = strconv.Atoi(m[1])
			r.says = m[2]
		} else if m := nameLine.FindStringSubmatch(line); m != nil {
			r.name = m[1]
		} else if r.method == "" {
			r.method, r.url, _ = strings.Cut(line, " ")
		} else {
			name, value, _ := strings.Cut(line, ": ")
			r.header.Add(name, value)
		}
	}
	if r.status == 0 || r.url == "" {
		t.Fatalf("%q has no request, or nothing is expected of it", r.title)
	}
	return r
}

// send asks once, and says what differs from what is expected.
func (r request) send(t *testing.T) (answer map[string]any, differs string) {
	t.Helper()
	ask, err := http.NewRequestWithContext(t.Context(), r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	ask.Header = r.header
	response, err := http.DefaultClient.Do(ask)
	if err != nil {
		return nil, err.Error()
	}
	defer response.Body.Close() //nolint:errcheck // it is read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err.Error()
	}
	said := string(text)
	if name, value, is := strings.Cut(r.says, ": "); is && response.Header.Get(name) == value {
		said += r.says
	}
	if response.StatusCode != r.status || !strings.Contains(said, r.says) {
		return nil, fmt.Sprintf("%d %s, not %d %s", response.StatusCode, said, r.status, r.says)
	}
	_ = json.Unmarshal(text, &answer) // a list has no fields that the next request could use
	return answer, ""
}

// The file is walked from above to below, and each request is answered as it says there.
func TestRequests_AreAnsweredAsTheFileSays(t *testing.T) {
	text, err := os.ReadFile("../../docs/requests.http")
	if err != nil {
		t.Fatal(err)
	}
	env := whole.System.Env()
	values := map[string]string{}
	for _, m := range setting.FindAllStringSubmatch(string(text), -1) {
		values[m[1]] = m[2]
		switch m[1] {
		case "MERCHANT_KEY":
			if m[2] != env[m[1]] {
				t.Errorf("the file has the key %s, scripts/lab.env has %s", m[2], env[m[1]])
			}
		case "MERCHANT_ENDPOINT":
			values[m[1]] = env["SANDBOX_URL"]
		default:
			if here := env[m[1]]; here != "" {
				values[m[1]] = here
			}
		}
	}
	answers := map[string]map[string]any{}
	blocks := strings.Split(string(text), "\n### ")[1:]
	for _, block := range blocks {
		block = variable.ReplaceAllStringFunc(block, func(v string) string { return values[strings.Trim(v, "{}")] })
		block = answerOf.ReplaceAllStringFunc(block, func(v string) string {
			m := answerOf.FindStringSubmatch(v)
			return fmt.Sprint(answers[m[1]][m[2]])
		})
		r := parse(t, block)
		answer, differs := r.send(t)
		for deadline := time.Now().Add(time.Minute); differs != "" && r.method == http.MethodGet && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // it is asked again, as the file tells a person to do
			answer, differs = r.send(t)
		}
		if differs != "" {
			t.Fatalf("%s: %s %s\n%s", r.title, r.method, r.url, differs)
		}
		answers[r.name] = answer
	}
	if len(blocks) < 25 {
		t.Errorf("only %d requests", len(blocks))
	}
}
