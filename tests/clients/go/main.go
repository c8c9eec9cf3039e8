// Drives the server with nats.go. Each check prints `ok NAME` or `not ok NAME: why`.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const seed = "SUAOIAF3SIPKZL2KCCR5HQ4DDN7T25DJPOF74Q55ZWPWKDJQK3QDF36BBM"

// How long a check waits for something that must happen.
const deadline = 5 * time.Second

type check struct {
	name string
	run  func() error
}

func open(where string, options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(os.Getenv(where), options...)
}

// Opens so many connections and gives a function that closes them.
func openMany(count int, options ...nats.Option) ([]*nats.Conn, func(), error) {
	var conns []*nats.Conn
	closeAll := func() {
		for _, nc := range conns {
			nc.Close()
		}
	}
	for range count {
		nc, err := open("NATS_URL", options...)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, nc)
	}
	return conns, closeAll, nil
}

func soon[T any](what string, channel <-chan T) (T, error) {
	select {
	case value := <-channel:
		return value, nil
	case <-time.After(deadline):
		var none T
		return none, fmt.Errorf("waited in vain: %s", what)
	}
}

func publishAndSubscribe() error {
	conns, closeAll, err := openMany(6)
	if err != nil {
		return err
	}
	defer closeAll()
	var subs []*nats.Subscription
	for _, nc := range conns {
		sub, err := nc.SubscribeSync("go.news.*")
		if err != nil {
			return err
		}
		if err := nc.Flush(); err != nil {
			return err
		}
		subs = append(subs, sub)
	}
	for number := range 200 {
		subject := fmt.Sprintf("go.news.%d", number)
		if err := conns[number%6].Publish(subject, []byte(subject)); err != nil {
			return err
		}
		for _, sub := range subs {
			message, err := sub.NextMsg(deadline)
			if err != nil {
				return err
			}
			if message.Subject != subject || string(message.Data) != subject {
				return fmt.Errorf("wanted %s, got %s", subject, message.Subject)
			}
		}
	}
	return nil
}

func requestAndReply() error {
	conns, closeAll, err := openMany(2)
	if err != nil {
		return err
	}
	defer closeAll()
	_, err = conns[0].Subscribe("go.double", func(message *nats.Msg) {
		number, _ := strconv.Atoi(string(message.Data))
		_ = message.Respond([]byte(strconv.Itoa(2 * number)))
	})
	if err != nil {
		return err
	}
	if err := conns[0].Flush(); err != nil {
		return err
	}
	for number := range 500 {
		reply, err := conns[1].Request("go.double", []byte(strconv.Itoa(number)), deadline)
		if err != nil {
			return err
		}
		if string(reply.Data) != strconv.Itoa(2*number) {
			return fmt.Errorf("%d doubled is %s", number, reply.Data)
		}
	}
	return nil
}

func noResponders() error {
	nc, err := open("NATS_URL")
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Request("go.nobody", nil, deadline); !errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no responders gave %v", err)
	}
	return nil
}

func queueGroups() error {
	conns, closeAll, err := openMany(7)
	if err != nil {
		return err
	}
	defer closeAll()
	counts := make([]atomic.Int64, 6)
	for index, nc := range conns[:6] {
		_, err := nc.QueueSubscribe("go.work", "workers", func(*nats.Msg) {
			counts[index].Add(1)
		})
		if err != nil {
			return err
		}
		if err := nc.Flush(); err != nil {
			return err
		}
	}
	for range 1200 {
		if err := conns[6].Publish("go.work", []byte("x")); err != nil {
			return err
		}
	}
	if err := conns[6].Flush(); err != nil {
		return err
	}
	for _, nc := range conns[:6] {
		if err := nc.Drain(); err != nil {
			return err
		}
	}
	end := time.Now().Add(deadline)
	for _, nc := range conns[:6] {
		for !nc.IsClosed() {
			if time.Now().After(end) {
				return errors.New("a drain does not end")
			}
			time.Sleep(time.Millisecond)
		}
	}
	var total int64
	for index := range counts {
		count := counts[index].Load()
		if count < 60 || count > 500 {
			return fmt.Errorf("member %d got %d of 1200", index, count)
		}
		total += count
	}
	if total != 1200 {
		return fmt.Errorf("%d of 1200 came", total)
	}
	return nil
}

func headersTravel() error {
	conns, closeAll, err := openMany(2)
	if err != nil {
		return err
	}
	defer closeAll()
	sub, err := conns[0].SubscribeSync("go.headers")
	if err != nil {
		return err
	}
	if err := conns[0].Flush(); err != nil {
		return err
	}
	sent := nats.NewMsg("go.headers")
	sent.Data = []byte("body")
	sent.Header = nats.Header{"X-One": {"1", "eins"}, "lower-case": {"kept"}}
	if err := conns[1].PublishMsg(sent); err != nil {
		return err
	}
	message, err := sub.NextMsg(deadline)
	if err != nil {
		return err
	}
	ones, lower := message.Header.Values("X-One"), message.Header["lower-case"]
	if len(ones) != 2 || ones[1] != "eins" || len(lower) != 1 || lower[0] != "kept" {
		return fmt.Errorf("the headers are %v", message.Header)
	}
	return nil
}

func autoUnsubscribe() error {
	nc, err := open("NATS_URL")
	if err != nil {
		return err
	}
	defer nc.Close()
	var got atomic.Int64
	sub, err := nc.Subscribe("go.limited", func(*nats.Msg) { got.Add(1) })
	if err != nil {
		return err
	}
	if err := sub.AutoUnsubscribe(3); err != nil {
		return err
	}
	for range 10 {
		if err := nc.Publish("go.limited", nil); err != nil {
			return err
		}
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	end := time.Now().Add(deadline)
	for got.Load() < 3 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if got.Load() != 3 {
		return fmt.Errorf("%d of 3 came", got.Load())
	}
	return nil
}

func payloadLimit() error {
	nc, err := open("NATS_URL")
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("go.large")
	if err != nil {
		return err
	}
	if err := nc.Publish("go.large", make([]byte, nc.MaxPayload())); err != nil {
		return err
	}
	message, err := sub.NextMsg(deadline)
	if err != nil {
		return err
	}
	if len(message.Data) != 1048576 {
		return fmt.Errorf("%d bytes came", len(message.Data))
	}
	err = nc.Publish("go.large", make([]byte, nc.MaxPayload()+1))
	if !errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("a payload over the limit gave %v", err)
	}
	return nil
}

func logins() error {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	good := map[string]nats.Option{
		"plain":  nats.UserInfo("alice", "secret"),
		"bcrypt": nats.UserInfo("hashed", "secret"),
		"nkey":   nats.Nkey(public, pair.Sign),
	}
	for name, option := range good {
		nc, err := open("NATS_AUTH_URL", option)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := nc.Flush(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		nc.Close()
	}
	nc, err := open("NATS_TOKEN_URL", nats.Token("t0ken"))
	if err != nil {
		return err
	}
	nc.Close()
	for where, option := range map[string]nats.Option{
		"NATS_AUTH_URL":  nats.UserInfo("alice", "wrong"),
		"NATS_TOKEN_URL": nats.Token("other"),
	} {
		if _, err := open(where, option); !errors.Is(err, nats.ErrAuthorization) {
			return fmt.Errorf("%s with bad credentials gave %v", where, err)
		}
	}
	return nil
}

func permissionErrors() error {
	told := make(chan error, 16)
	nc, err := open("NATS_AUTH_URL", nats.UserInfo("bound", "secret"),
		nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { told <- err }))
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.Publish("no.way", nil); err != nil {
		return err
	}
	said, err := soon("the publish error", told)
	if err != nil {
		return err
	}
	if !errors.Is(said, nats.ErrPermissionViolation) || !strings.Contains(said.Error(), `"no.way"`) {
		return fmt.Errorf("the publish gave %v", said)
	}
	sub, err := nc.SubscribeSync("no.>")
	if err != nil {
		return err
	}
	if _, err := sub.NextMsg(deadline); !errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("the subscription gave %v", err)
	}
	allowed, err := nc.SubscribeSync("ok.a")
	if err != nil {
		return err
	}
	if err := nc.Publish("ok.a", nil); err != nil {
		return err
	}
	_, err = allowed.NextMsg(deadline)
	return err
}

func overTLS() error {
	nc, err := open("NATS_TLS_URL", nats.RootCAs(os.Getenv("TRUSTED_CA")))
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("go.tls")
	if err != nil {
		return err
	}
	if err := nc.Publish("go.tls", make([]byte, 300000)); err != nil {
		return err
	}
	message, err := sub.NextMsg(deadline)
	if err != nil {
		return err
	}
	if len(message.Data) != 300000 {
		return fmt.Errorf("%d bytes came", len(message.Data))
	}
	if _, err := open("NATS_TLS_URL"); err == nil {
		return errors.New("an unknown authority was trusted")
	}
	return nil
}

func reconnectAfterRestart() error {
	gone, back := make(chan struct{}, 16), make(chan struct{}, 16)
	nc, err := open("NATS_AGAIN_URL", nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { gone <- struct{}{} }),
		nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("go.again")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(os.Getenv("AGAIN_PID"))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := soon("the disconnect", gone); err != nil {
		return err
	}
	server := exec.Command(os.Getenv("AGAIN_SERVER"), "-a", "127.0.0.1",
		"-p", os.Getenv("AGAIN_PORT"), "-c", os.Getenv("AGAIN_CONFIG"))
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	if _, err := soon("the reconnect", back); err != nil {
		return err
	}
	if err := nc.Publish("go.again", []byte("back")); err != nil {
		return err
	}
	_, err = sub.NextMsg(deadline)
	return err
}

func lameDuckMode() error {
	told := make(chan struct{}, 16)
	nc, err := open("NATS_DUCK_URL",
		nats.LameDuckModeHandler(func(*nats.Conn) { told <- struct{}{} }))
	if err != nil {
		return err
	}
	defer nc.Close()
	pid, err := strconv.Atoi(os.Getenv("DUCK_PID"))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		return err
	}
	_, err = soon("the lame duck callback", told)
	return err
}

// What a top-like tool does: /varz and /connz again and again, decoded strictly.
func pollsMonitoring() error {
	conns, closeAll, err := openMany(20, nats.Name("go-poll"))
	if err != nil {
		return err
	}
	defer closeAll()
	var wait sync.WaitGroup
	for _, nc := range conns {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 200 {
				_ = nc.Publish("go.poll", []byte("x"))
			}
			_ = nc.Flush()
		}()
	}
	var last int64
	for range 20 {
		var varz struct {
			Now      time.Time `json:"now"`
			CPU      float64   `json:"cpu"`
			Mem      int64     `json:"mem"`
			InMsgs   int64     `json:"in_msgs"`
			OutBytes int64     `json:"out_bytes"`
			Slow     int64     `json:"slow_consumers"`
			Uptime   string    `json:"uptime"`
		}
		if err := get("/varz", &varz); err != nil {
			return err
		}
		if varz.InMsgs < last || varz.Mem <= 0 || varz.Now.IsZero() {
			return fmt.Errorf("odd figures: %+v", varz)
		}
		last = varz.InMsgs
		var connz struct {
			Num   int `json:"num_connections"`
			Conns []struct {
				Cid    uint64    `json:"cid"`
				Name   string    `json:"name"`
				Start  time.Time `json:"start"`
				InMsgs int64     `json:"in_msgs"`
				Subs   uint32    `json:"subscriptions"`
				RTT    string    `json:"rtt"`
				Idle   string    `json:"idle"`
			} `json:"connections"`
		}
		if err := get("/connz?sort=msgs_from&limit=1024&subs=true", &connz); err != nil {
			return err
		}
		if connz.Num < 20 || connz.Num != len(connz.Conns) {
			return fmt.Errorf("%d connections, %d listed", connz.Num, len(connz.Conns))
		}
		for index := 1; index < len(connz.Conns); index++ {
			if connz.Conns[index-1].InMsgs < connz.Conns[index].InMsgs {
				return errors.New("connz is not sorted by msgs_from")
			}
		}
	}
	wait.Wait()
	return nil
}

func get(path string, into any) error {
	client := http.Client{Timeout: deadline}
	page, err := client.Get(os.Getenv("NATS_MONITOR") + path)
	if err != nil {
		return err
	}
	defer page.Body.Close()
	return json.NewDecoder(page.Body).Decode(into)
}

func main() {
	checks := []check{
		{"publish_and_subscribe", publishAndSubscribe},
		{"request_and_reply", requestAndReply},
		{"no_responders", noResponders},
		{"queue_groups", queueGroups},
		{"headers_travel", headersTravel},
		{"auto_unsubscribe", autoUnsubscribe},
		{"payload_limit", payloadLimit},
		{"logins", logins},
		{"permission_errors", permissionErrors},
		{"over_tls", overTLS},
		{"reconnect_after_restart", reconnectAfterRestart},
		{"lame_duck_mode", lameDuckMode},
		{"polls_monitoring", pollsMonitoring},
	}
	failed := 0
	for _, check := range checks {
		if err := check.run(); err != nil {
			failed++
			fmt.Printf("not ok %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok %s\n", check.name)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
