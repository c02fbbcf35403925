// The loop of the programs for Java, with as much JSON as it needs; the protocol is told in
// tests/clients/program.py.
import java.io.FileInputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

final class Cases {
    static final String PATTERN = "abcdefghijklmnopqrstuvwxyz0123456789-";

    static final class Cannot extends Exception {
        Cannot(String reason) {
            super(reason);
        }
    }

    record Request(String method, String url, List<List<String>> headers, String user,
            String password, boolean challenge, int size, boolean chunked, boolean expect,
            boolean follow, boolean gzip) {
        @SuppressWarnings("unchecked")
        static Request of(Map<String, Object> told) {
            return new Request((String) told.get("method"), (String) told.get("url"),
                    (List<List<String>>) told.get("headers"), (String) told.get("user"),
                    (String) told.get("password"), (Boolean) told.get("challenge"),
                    ((Long) told.get("size")).intValue(), (Boolean) told.get("chunked"),
                    (Boolean) told.get("expect"), (Boolean) told.get("follow"),
                    (Boolean) told.get("gzip"));
        }

        byte[] body() {
            if (size < 0) {
                return null;
            }
            String text = PATTERN.repeat(size / PATTERN.length() + 1);
            return text.substring(0, size).getBytes(StandardCharsets.US_ASCII);
        }

        boolean hasLogin() {
            return !user.isEmpty() || !password.isEmpty();
        }
    }

    interface Play {
        List<Map<String, Object>> play(List<Request> requests, SSLContext tls) throws Exception;
    }

    static Map<String, Object> response(int status, Map<String, List<String>> fields, byte[] body)
            throws Exception {
        List<Object> headers = new ArrayList<>();
        fields.forEach((name, values) -> {
            if (name != null) {
                values.forEach(value -> headers.add(List.of(name.toLowerCase(), value)));
            }
        });
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("status", status);
        told.put("headers", headers);
        told.put("text", body.length <= 65536 ? new String(body, StandardCharsets.UTF_8) : "");
        told.put("size", body.length);
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(body);
        told.put("sha256", HexFormat.of().formatHex(digest));
        return told;
    }

    @SuppressWarnings("unchecked")
    static void run(Play play) throws Exception {
        byte[] input = System.in.readAllBytes();
        var told = (Map<String, Object>) new Reader(new String(input, StandardCharsets.UTF_8)).value();
        SSLContext tls = trusting((String) told.get("ca"));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (Object one : (List<Object>) told.get("cases")) {
            var asked = (Map<String, Object>) one;
            List<Request> requests = new ArrayList<>();
            for (Object request : (List<Object>) asked.get("requests")) {
                requests.add(Request.of((Map<String, Object>) request));
            }
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("name", asked.get("name"));
            line.put("responses", List.of());
            line.put("error", "");
            line.put("cannot", "");
            try {
                line.put("responses", play.play(requests, tls));
            } catch (Cannot reason) {
                line.put("cannot", reason.getMessage());
            } catch (Exception error) {
                line.put("error", error.toString());
            }
            out.println(written(line));
        }
    }

    static SSLContext trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream file = new FileInputStream(authority)) {
            var certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
            store.setCertificateEntry("authority", certificate);
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        return tls;
    }

    static String written(Object value) {
        if (value instanceof Map<?, ?> map) {
            List<String> parts = new ArrayList<>();
            map.forEach((key, one) -> parts.add(written(key) + ":" + written(one)));
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof List<?> list) {
            return "[" + String.join(",", list.stream().map(Cases::written).toList()) + "]";
        }
        if (value instanceof String text) {
            StringBuilder built = new StringBuilder("\"");
            for (char c : text.toCharArray()) {
                if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
                    built.append(String.format("\\u%04x", (int) c));
                } else {
                    built.append(c);
                }
            }
            return built.append('"').toString();
        }
        return String.valueOf(value);
    }

    /** A reader of the JSON that the suite writes. */
    static final class Reader {
        private final String text;
        private int at;

        Reader(String text) {
            this.text = text;
        }

        private char next() {
            while (" \t\r\n,:".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
            return text.charAt(at);
        }

        Object value() {
            switch (next()) {
                case '{' -> {
                    at++;
                    Map<String, Object> map = new LinkedHashMap<>();
                    while (next() != '}') {
                        String key = (String) value();
                        map.put(key, value());
                    }
                    at++;
                    return map;
                }
                case '[' -> {
                    at++;
                    List<Object> list = new ArrayList<>();
                    while (next() != ']') {
                        list.add(value());
                    }
                    at++;
                    return list;
                }
                case '"' -> {
                    return string();
                }
                default -> {
                    int start = at;
                    while (at < text.length() && ",]} \n".indexOf(text.charAt(at)) < 0) {
                        at++;
                    }
                    String word = text.substring(start, at);
                    return word.equals("true") || word.equals("false") ? Boolean.valueOf(word)
                            : (Object) Long.valueOf(word);
                }
            }
        }

        private String string() {
            StringBuilder built = new StringBuilder();
            for (at++; text.charAt(at) != '"'; at++) {
                char c = text.charAt(at);
                if (c != '\\') {
                    built.append(c);
                } else if (text.charAt(++at) == 'u') {
                    built.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    c = text.charAt(at);
                    built.append(c == 'n' ? '\n' : c == 't' ? '\t' : c);
                }
            }
            at++;
            return built.toString();
        }
    }
}
