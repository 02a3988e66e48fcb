package live

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/platform/fault"
)

// point is a fault point as the page offers it.
type point struct {
	fault.Info
	Services []string `json:"services"`
	Code     []string `json:"code"` // file:line of each place where it stands
}

// points lists them in the order of the work.
func (p *Page) points(w http.ResponseWriter, _ *http.Request) {
	places := map[string][]string{}
	if p.Root != "" {
		places = placesIn(p.Root)
	}
	list := []point{}
	for _, info := range fault.Points {
		list = append(list, point{info, stack.WhoPasses(info.Name), places[info.Name]})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the browser may be gone
}

var (
	constant = regexp.MustCompile(`^\s*(\w+)\s*= point\("([a-z0-9.-]+)"`)
	mention  = regexp.MustCompile(`fault\.([A-Z]\w+)`)
)

// placesIn finds the lines of code at which the points stand. Without the source it
// finds none.
func placesIn(root string) map[string][]string {
	names, places := map[string]string{}, map[string][]string{}
	lines(filepath.Join(root, "shared/platform/fault/points.go"), func(_ int, line string) {
		if m := constant.FindStringSubmatch(line); m != nil {
			names[m[1]] = m[2]
		}
	})
	for _, dir := range []string{"services", "shared/pattern"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil //nolint:nilerr // what cannot be read is not shown
			}
			file, _ := filepath.Rel(root, path) // it is under root
			lines(path, func(n int, line string) {
				for _, m := range mention.FindAllStringSubmatch(line, -1) {
					if name := names[m[1]]; name != "" {
						places[name] = append(places[name], fmt.Sprintf("%s:%d", file, n))
					}
				}
			})
			return nil
		})
	}
	return places
}

func lines(path string, do func(n int, line string)) {
	file, err := os.Open(path) //nolint:gosec // a file of the repository
	if err != nil {
		return
	}
	defer file.Close() //nolint:errcheck // only read
	scanner := bufio.NewScanner(file)
	for n := 1; scanner.Scan(); n++ {
		do(n, scanner.Text())
	}
}
