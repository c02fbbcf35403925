// net/http of Go: one client a case, with a transport of its own.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const pattern = "abcdefghijklmnopqrstuvwxyz0123456789-"

type request struct {
	Method, URL, User, Password              string
	Headers                                  [][2]string
	Challenge, Chunked, Expect, Follow, Gzip bool
	Size                                     int
}

type response struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"`
	Text    string      `json:"text"`
	Size    int         `json:"size"`
	SHA256  string      `json:"sha256"`
}

type line struct {
	Name      string     `json:"name"`
	Responses []response `json:"responses"`
	Error     string     `json:"error"`
	Cannot    string     `json:"cannot"`
}

func send(client *http.Client, one request, hasLogin bool) (response, error) {
	var body io.Reader
	if one.Size >= 0 {
		text := strings.Repeat(pattern, one.Size/len(pattern)+1)[:one.Size]
		body = bytes.NewReader([]byte(text))
		if one.Chunked {
			body = struct{ io.Reader }{body} // of unknown size
		}
	}
	asked, err := http.NewRequest(one.Method, one.URL, body)
	if err != nil {
		return response{}, err
	}
	for _, field := range one.Headers {
		asked.Header.Add(field[0], field[1])
	}
	if one.Size >= 0 {
		asked.Header.Set("Content-Type", "text/plain")
	}
	if one.Expect {
		asked.Header.Set("Expect", "100-continue")
	}
	if hasLogin {
		asked.SetBasicAuth(one.User, one.Password)
	}
	answer, err := client.Do(asked)
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	received, err := io.ReadAll(answer.Body)
	if err != nil {
		return response{}, err
	}
	digest := sha256.Sum256(received)
	told := response{Status: answer.StatusCode, Size: len(received), SHA256: hex.EncodeToString(digest[:])}
	told.Headers = [][2]string{}
	for name, values := range answer.Header {
		for _, value := range values {
			told.Headers = append(told.Headers, [2]string{strings.ToLower(name), value})
		}
	}
	if len(received) <= 65536 {
		told.Text = string(received)
	}
	return told, nil
}

func play(requests []request, pool *x509.CertPool) ([]response, error) {
	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: pool},
		DisableCompression:    !requests[0].Gzip,
		ExpectContinueTimeout: 10 * time.Second,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	if !requests[0].Follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	answers := []response{}
	for _, one := range requests {
		hasLogin := one.User != "" || one.Password != ""
		answer, err := send(client, one, hasLogin && !one.Challenge)
		if err == nil && one.Challenge && answer.Status == 401 {
			answer, err = send(client, one, true)
		}
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

func main() {
	var told struct {
		CA    string
		Cases []struct {
			Name     string
			Requests []request
		}
	}
	if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
		panic(err)
	}
	authority, err := os.ReadFile(told.CA)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	lines := json.NewEncoder(os.Stdout)
	for _, one := range told.Cases {
		answers, err := play(one.Requests, pool)
		result := line{Name: one.Name, Responses: answers}
		if err != nil {
			result.Error = err.Error()
		}
		lines.Encode(result)
	}
}
