package exercises

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/failwell/scripts/stack"
)

const root = "../../.."

// When the code moves on, it must be seen here, and not by a learner.
func TestDiffs_FitTheSourceAndCompile(t *testing.T) {
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	fits := func(name string, e Exercise, overlay map[string]string, err error) {
		known[name] = true
		if err != nil {
			t.Errorf("%v\nput it into the tree as the diff did, git diff -U1 > scripts/lab/exercises/%s, and take it back", err, name)
			return
		}
		flags, err := stack.OverlayFlags(t.TempDir(), absolute, overlay)
		if err != nil {
			t.Fatal(err)
		}
		packages := []string{e.Package}
		for file := range overlay {
			packages = append(packages, "./"+filepath.Dir(file))
		}
		vet := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"vet"}, flags, packages)...) //nolint:gosec // our own list
		vet.Dir = root
		if out, err := vet.CombinedOutput(); err != nil {
			t.Errorf("%s does not compile: %v\n%s", name, err, out)
		}
	}
	for _, e := range All {
		bug, err := e.Overlay(root)
		fits(e.N+".diff", e, bug, err)
		for _, w := range e.Wrong {
			repair, err := e.Misled(root, w)
			fits("wrong/"+e.N+"-"+w.Name+".diff", e, repair, err)
		}
	}
	diffs, _ := filepath.Glob("*.diff")
	wrong, _ := filepath.Glob("wrong/*.diff")
	for _, name := range slices.Concat(diffs, wrong) {
		if !known[filepath.ToSlash(name)] {
			t.Errorf("%s belongs to no exercise in list.go", name)
		}
	}
}

// A learner comes to each exercise by a page, and by no page to one that is not there.
func TestLessons_HaveEachExerciseOnItsPage(t *testing.T) {
	command := regexp.MustCompile(`make exercise N=(\w+)`)
	shown := map[string][]string{}
	pages, _ := filepath.Glob(root + "/docs/course/[0-9]-*.md")
	for _, page := range pages {
		text, err := os.ReadFile(page) //nolint:gosec // a page of the course
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			shown[m[1]] = append(shown[m[1]], "docs/course/"+filepath.Base(page))
		}
	}
	for _, e := range All {
		lesson, err := e.Lesson(root)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(shown[e.N], lesson) {
			t.Errorf("%s does not have exercise %s", lesson, e.N)
		}
		delete(shown, e.N)
	}
	if len(shown) > 0 {
		t.Errorf("exercises that are not there: %v", shown)
	}
}

// What a learner changes is what is checked: files that differ and files that are new, but
// no test. A copy with work in it is not overwritten.
func TestSolution_IsWhatTheCopyHasOtherThanTheTree(t *testing.T) {
	dir := t.TempDir()
	e := All[0]
	bug, err := e.Overlay(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range copied {
		if err := eachFile(root, each, func(file string, text []byte) error { return write(filepath.Join(dir, file), text) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Solution(dir); err == nil || !strings.Contains(err.Error(), "make exercise N=1") {
		t.Errorf("without a copy: %v", err)
	}
	files, err := e.Begin(dir)
	if err != nil || len(files) != len(bug) {
		t.Fatalf("%v, %v", files, err)
	}
	if _, err := e.Begin(dir); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("the second time: %v", err)
	}
	for file, text := range map[string]string{files[0]: "changed", "services/orders/new.go": "new", "services/orders/accept_test.go": "easier"} {
		if err := write(filepath.Join(e.Dir(dir), file), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := e.Solution(dir)
	if err != nil || len(got) != 2 || got[files[0]] != "changed" || got["services/orders/new.go"] != "new" {
		t.Errorf("%d files, %v", len(got), err)
	}
	if err := os.Remove(filepath.Join(e.Dir(dir), "services/orders/stock.go")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Solution(dir); err == nil || !strings.Contains(err.Error(), "services/orders/stock.go is gone") {
		t.Errorf("with a file removed: %v", err)
	}
}
