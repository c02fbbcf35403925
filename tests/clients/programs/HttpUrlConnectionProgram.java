// java.net.HttpURLConnection.
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.PasswordAuthentication;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLSocketFactory;

final class HttpUrlConnectionProgram {
    static SSLSocketFactory factory;
    static final int STREAMED_BYTES = 1 << 20;

    public static void main(String[] arguments) throws Exception {
        Cases.run((requests, tls) -> {
            // One factory for all: connections are reused by whoever made them.
            if (HttpsURLConnection.getDefaultSSLSocketFactory() != factory) {
                factory = tls.getSocketFactory();
                HttpsURLConnection.setDefaultSSLSocketFactory(factory);
            }
            List<Map<String, Object>> answers = new ArrayList<>();
            for (Cases.Request request : requests) {
                answers.add(ask(request));
            }
            return answers;
        });
    }

    static Map<String, Object> ask(Cases.Request request) throws Exception {
        var connection = (HttpURLConnection) new URL(request.url()).openConnection();
        connection.setRequestMethod(request.method());
        connection.setInstanceFollowRedirects(request.follow());
        connection.setUseCaches(false);
        for (List<String> field : request.headers()) {
            connection.addRequestProperty(field.get(0), field.get(1));
        }
        if (request.challenge()) {
            connection.setAuthenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(
                            request.user(), request.password().toCharArray());
                }
            });
        } else if (request.hasLogin()) {
            byte[] login = (request.user() + ":" + request.password()).getBytes(StandardCharsets.UTF_8);
            String encoded = Base64.getEncoder().encodeToString(login);
            connection.setRequestProperty("Authorization", "Basic " + encoded);
        }
        if (request.gzip()) {
            connection.setRequestProperty("Accept-Encoding", "gzip");
        }
        byte[] body = request.body();
        if (body != null) {
            send(connection, request, body);
        }
        int status = connection.getResponseCode();
        InputStream stream = connection.getErrorStream();
        if (stream == null) {
            stream = status >= 400 ? InputStream.nullInputStream() : connection.getInputStream();
        }
        if ("gzip".equals(connection.getContentEncoding())) {
            stream = new GZIPInputStream(stream);
        }
        return Cases.response(status, connection.getHeaderFields(), stream.readAllBytes());
    }

    static void send(HttpURLConnection connection, Cases.Request request, byte[] body)
            throws Exception {
        connection.setDoOutput(true);
        connection.setRequestProperty("Content-Type", "text/plain");
        if (request.expect()) {
            connection.setRequestProperty("Expect", "100-Continue");
        }
        if (request.chunked()) {
            connection.setChunkedStreamingMode(65536);
        } else if (body.length > STREAMED_BYTES || request.expect()) {
            connection.setFixedLengthStreamingMode(body.length);
        }
        try (OutputStream out = connection.getOutputStream()) {
            out.write(body);
        } catch (java.io.IOException error) {
            // What the service said meanwhile is still to be read, as by any caller who asks why.
            if (connection.getHeaderField(0) == null) {
                throw error;
            }
        }
    }
}
