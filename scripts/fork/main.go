// Command fork copies this repository under another name, to start a real service
// from: the module and the project are renamed, and folders that the new one does not
// want can be left out. Services and patterns are removed by hand: docs/fork.md.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The names that are exchanged.
const (
	ourModule = "example.com/failwell"
	ourName   = "failwell"
)

var cli struct {
	Module  string   `help:"The new module's path: github.com/acme/pay."`
	Name    string   `help:"The project's new name, in small letters: it becomes part of metrics, exchanges and images."`
	Dir     string   `help:"Where to put it. Default: beside this repository, under the new name." type:"path"`
	Without []string `help:"What to leave out, separated by commas: lab, demo, bench, e2e, containers."`
}

// parts are what can be left out: files, by the beginning of their paths. A package
// among them that something else imports comes along all the same: the end-to-end
// tests need the lab's audit and sweep.
var parts = map[string][]string{
	"lab": {
		"scripts/lab/", "scripts/conform/", "scripts/catalogue/", "scripts/fork/", "scripts/live/", "scripts/run/live.go", "docs/live", "docs/site/", "docs/.nojekyll", "docs/patterns/", "docs/course/",
		"docs/system.svg", "docs/survived.svg", "README.md", ".github/CONTRIBUTING.md",
		"docs/README.md", "docs/choosing.md", "docs/conformance.md", "docs/sweep.md", "docs/track-record.md",
	},
	"demo":       {"scripts/demo/", ".devcontainer/"},
	"bench":      {"scripts/bench/", "docs/performance."},
	"e2e":        {"scripts/e2e/", "scripts/large/", "scripts/smoke/"},
	"containers": {"scripts/docker/", "docker-compose.yml", ".dockerignore"},
}

func main() {
	kong.Parse(&cli, kong.Name("fork"), kong.UsageOnError())
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fork:", err)
		os.Exit(1)
	}
}

var (
	validModule = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+(/[A-Za-z0-9][A-Za-z0-9._~-]*)+$`)
	validName   = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
)

// check says in one line what is wrong with what was asked for.
func check() error {
	switch {
	case cli.Module == "" || cli.Name == "":
		return errors.New("give the new names: make fork MODULE=github.com/acme/pay NAME=pay")
	case !validModule.MatchString(cli.Module):
		return fmt.Errorf("MODULE=%s is not the path of a module, such as github.com/acme/pay", cli.Module)
	case !validName.MatchString(cli.Name):
		return fmt.Errorf("NAME=%s must be small letters and digits, a letter first", cli.Name)
	case strings.Contains(cli.Module, ourModule) || strings.Contains(cli.Name, ourName):
		return errors.New("MODULE and NAME must differ from ours")
	}
	for _, part := range cli.Without {
		if parts[part] == nil {
			return fmt.Errorf("WITHOUT=%s: %q cannot be left out, only %s; services and patterns are removed by hand (docs/fork.md)",
				strings.Join(cli.Without, ","), part, strings.Join(slices.Sorted(maps.Keys(parts)), ", "))
		}
	}
	return nil
}

func run() error {
	if err := check(); err != nil {
		return err
	}
	dir := cli.Dir
	if dir == "" {
		dir = filepath.Join("..", cli.Name)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is there already, and not empty", dir)
	}
	kept, err := keep(cli.Without)
	if err != nil {
		return err
	}
	kept[changelog] = "# Changes\n\n## v0.1.0\n\nThe first version.\n" // ours tells of our versions
	c := copier{kept: kept, renamed: strings.NewReplacer(append(newKeys(kept["scripts/lab.env"]),
		ourModule, cli.Module,
		strings.ToUpper(ourName), strings.ToUpper(cli.Name),
		title(ourName), title(cli.Name),
		ourName, cli.Name,
	)...)}
	for file := range kept {
		if err := c.copy(file, filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	written := map[string]string{"forked-from.txt": origin()}
	if !c.here("README.md") {
		written["README.md"] = c.readme()
	}
	for file, text := range written {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	commands := [][]string{{"go", "mod", "tidy"}, {"gofmt", "-w", "services", "shared", "scripts"}, {"go", "build", "./..."}, {"go", "vet", "./..."}}
	if c.here("scripts/catalogue") {
		commands = append(commands, []string{"go", "run", "./scripts/catalogue", "generate"}) // the new name has moved columns
	}
	for _, command := range commands {
		cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // our own list
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s in the copy: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	fmt.Printf("%d files copied to %s as module %s; it builds.\n", len(kept), dir, cli.Module)
	fmt.Printf("Next: cd %s && git init && make test\n", dir)
	return nil
}

const changelog = "docs/CHANGELOG.md"

var secret = regexp.MustCompile(`\b(whsec_[A-Za-z0-9+/=]+|(?:sk|svc)_\w+)`)

// newKeys draws another key for each one of the lab: ours are public, and a fork that kept
// them would open to everybody who has read this repository. They come in pairs, the old
// one and the new one; the longest first, should one be the beginning of another.
func newKeys(labEnv string) (pairs []string) {
	keys := secret.FindAllString(labEnv, -1)
	slices.SortFunc(keys, func(a, b string) int { return len(b) - len(a) })
	for _, key := range slices.Compact(keys) {
		drawn := make([]byte, 24)
		_, _ = rand.Read(drawn) // never fails
		kind, _, _ := strings.Cut(key, "_")
		text := hex.EncodeToString(drawn)
		if kind == "whsec" {
			text = base64.StdEncoding.EncodeToString(drawn)
		}
		pairs = append(pairs, key, kind+"_"+text)
	}
	return pairs
}

// title is a name as it stands at the beginning of a sentence.
func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// origin says where the copy comes from: without it the owner could not tell later which of
// our fixes it has.
func origin() string {
	commit, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=40").Output() //nolint:noctx // over in milliseconds
	if err != nil {
		commit = []byte("unknown\n")
	}
	return fmt.Sprintf("from:   %s\ncommit: %sby:     make fork MODULE=%s NAME=%s WITHOUT=%s\n", ourModule, commit, cli.Module, cli.Name, strings.Join(cli.Without, ","))
}

// tracked lists the repository's files, also those that git does not know yet. Where
// there is no git, it is everything but what builds and runs leave in the tree.
func tracked() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate").Output() //nolint:noctx // over in milliseconds
	if err == nil {
		return slices.DeleteFunc(strings.Fields(string(out)), func(file string) bool { _, err := os.Stat(file); return err != nil }), nil
	}
	var files []string
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".run" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			files = append(files, filepath.ToSlash(path))
		}
		return nil
	})
	return files, err
}
