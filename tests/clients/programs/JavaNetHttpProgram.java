// java.net.http.HttpClient, which asks for HTTP/2 by default: by Upgrade: h2c, or ALPN over TLS.
import java.io.ByteArrayInputStream;
import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPInputStream;
import javax.net.ssl.SSLContext;

final class JavaNetHttpProgram {
    public static void main(String[] arguments) throws Exception {
        Cases.run(JavaNetHttpProgram::play);
    }

    static List<Map<String, Object>> play(List<Cases.Request> requests, SSLContext tls)
            throws Exception {
        Cases.Request first = requests.get(requests.size() - 1);
        HttpClient.Builder builder = HttpClient.newBuilder().sslContext(tls).followRedirects(
                first.follow() ? HttpClient.Redirect.NORMAL : HttpClient.Redirect.NEVER);
        if (first.challenge()) {
            builder.authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(first.user(), first.password().toCharArray());
                }
            });
        }
        HttpClient client = builder.build();
        List<Map<String, Object>> answers = new ArrayList<>();
        for (Cases.Request request : requests) {
            answers.add(ask(client, request));
        }
        return answers;
    }

    static Map<String, Object> ask(HttpClient client, Cases.Request request) throws Exception {
        byte[] body = request.body();
        HttpRequest.BodyPublisher sent = HttpRequest.BodyPublishers.noBody();
        HttpRequest.Builder built = HttpRequest.newBuilder(URI.create(request.url()));
        if (body != null) {
            sent = request.chunked()
                    ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                    : HttpRequest.BodyPublishers.ofByteArray(body);
            built.header("Content-Type", "text/plain");
        }
        built.method(request.method(), sent).expectContinue(request.expect());
        for (List<String> field : request.headers()) {
            built.header(field.get(0), field.get(1));
        }
        if (request.hasLogin() && !request.challenge()) {
            byte[] login = (request.user() + ":" + request.password()).getBytes(StandardCharsets.UTF_8);
            built.header("Authorization", "Basic " + Base64.getEncoder().encodeToString(login));
        }
        if (request.gzip()) {
            built.header("Accept-Encoding", "gzip");
        }
        // Its own timeout does not end the wait for 100 (Continue).
        HttpResponse<byte[]> answer = client
                .sendAsync(built.build(), HttpResponse.BodyHandlers.ofByteArray())
                .get(request.expect() ? 8 : 60, TimeUnit.SECONDS);
        byte[] received = answer.body();
        if (answer.headers().firstValue("content-encoding").orElse("").equals("gzip")) {
            received = new GZIPInputStream(new ByteArrayInputStream(received)).readAllBytes();
        }
        return Cases.response(answer.statusCode(), answer.headers().map(), received);
    }
}
