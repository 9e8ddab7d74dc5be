package outbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/message"
)

const crashWriters = 4

// crashChild puts from several goroutines until it is killed and says which
// messages the outbox has acknowledged: "writer number" a line.
func crashChild(dir string) {
	o, err := Open(dir, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	start, _ := strconv.Atoi(os.Args[2])
	var wg sync.WaitGroup
	for w := range crashWriters {
		wg.Go(func() {
			for i := start; ; i++ {
				m := message.Message{
					ID:     strconv.Itoa(i),
					Source: message.Source{Module: strconv.Itoa(w)},
					Body:   make([]byte, 100+i%3*2000),
				}
				if err := o.Put(context.Background(), m, w, 0); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				// One write, so that a kill cannot cut a line in two.
				os.Stdout.WriteString(strconv.Itoa(w) + " " + strconv.Itoa(i) + "\n")
			}
		})
	}
	wg.Wait()
}

func TestWhatWasAcknowledgedSurvivesBeingKilled(t *testing.T) {
	rounds := 8
	if n, err := strconv.Atoi(os.Getenv("TUXWATCH_KILLS")); err == nil {
		rounds = n
	}
	dir := tempDir(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	total := 0
	for round := range rounds {
		const stride = 1_000_000
		start := round * stride
		child := exec.Command(os.Args[0], dir, strconv.Itoa(start))
		child.Env = append(os.Environ(), childVariable+"=crash")
		child.Stderr = os.Stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed at a random one of its acknowledgements, not at a moment: on a
		// loaded machine it may not have got anywhere yet.
		killAfter := 1 + random.IntN(400)
		acknowledged := make([]int, crashWriters)
		for w := range acknowledged {
			acknowledged[w] = -1
		}
		lines := bufio.NewScanner(stdout)
		for n := 0; lines.Scan(); n++ {
			writer, number, _ := strings.Cut(lines.Text(), " ")
			w, err1 := strconv.Atoi(writer)
			i, err2 := strconv.Atoi(number)
			if err1 != nil || err2 != nil || acknowledged[w] != -1 && i != acknowledged[w]+1 {
				t.Fatalf("the child wrote %q after %d", lines.Text(), acknowledged[w])
			}
			acknowledged[w] = i
			if n == killAfter {
				child.Process.Kill()
			}
		}
		io.Copy(io.Discard, stdout)
		child.Wait()
		if total += killAfter; lines.Err() != nil {
			t.Fatal(lines.Err())
		}

		o := open(t, dir, Options{})
		if s := o.Stats(); s.Damaged != 0 {
			t.Fatalf("round %d: damaged: %s", round, s.Damage)
		}
		found := make([]int, crashWriters)
		for w := range found {
			found[w] = start - 1
		}
		records := all(t, o)
		for _, r := range records {
			w, _ := strconv.Atoi(r.Message.Source.Module)
			i, _ := strconv.Atoi(r.Message.ID)
			if i != found[w]+1 || r.ID.Priority() != w || len(r.Message.Body) != 100+i%3*2000 {
				t.Fatalf("round %d: writer %d: found %d after %d", round, w, i, found[w])
			}
			found[w] = i
			o.Delete(r.ID)
		}
		for w := range found {
			if found[w] < acknowledged[w] {
				t.Errorf("round %d: writer %d: acknowledged up to %d, found up to %d", round, w, acknowledged[w], found[w])
			}
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("killed %d times, over %d acknowledged messages checked", rounds, total)
}
