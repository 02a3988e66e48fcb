package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What the tests start is what compose starts.
func TestImages_AreThoseOfCompose(t *testing.T) {
	compose, err := os.ReadFile("../../docker-compose.yml")
	if os.IsNotExist(err) {
		t.Skip("a fork without containers")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{postgresImage, rabbitImage} {
		if !strings.Contains(string(compose), ":-"+image+"}") {
			t.Errorf("docker-compose.yml has another image than %s", image)
		}
	}
}

// A service is built without what only tests and the lab need.
func TestServices_CarryNothingOfTheLab(t *testing.T) {
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../../services/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"dockertest", "docker/docker", "opencontainers/runc", "toxiproxy", "porcupine", "pgregory.net/rapid", "\ntesting\n", "shared/testenv"} {
		if strings.Contains(string(list), part) {
			t.Errorf("a service is built with %s", strings.TrimSpace(part))
		}
	}
}
