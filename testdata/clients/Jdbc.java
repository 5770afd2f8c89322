// What a program with JDBC does. The argument is the URL to connect to, the second the user.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.atomic.AtomicBoolean;
import org.postgresql.PGConnection;

class Jdbc {
    static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }

    static String value(Statement statement, String sql) throws SQLException {
        try (ResultSet rows = statement.executeQuery(sql)) {
            check(rows.next(), "no row");
            return rows.getString(1);
        }
    }

    static String failure(Statement statement, String sql) {
        try {
            statement.execute(sql);
            return "no error";
        } catch (SQLException e) {
            return e.getSQLState();
        }
    }

    public static void main(String[] args) throws Exception {
        try (Connection conn = DriverManager.getConnection(args[0]); Statement statement = conn.createStatement()) {
            check(value(statement, "SELECT current_user").equals(args[1]), "somebody else");

            // prepared statements: from the fifth time on one of the server
            try (var doubled = conn.prepareStatement("SELECT ?::int * 2")) {
                for (int n = 0; n < 10; n++) {
                    doubled.setInt(1, n);
                    try (ResultSet rows = doubled.executeQuery()) {
                        check(rows.next() && rows.getInt(1) == 2 * n, "not doubled");
                    }
                }
            }

            // COPY
            statement.execute("CREATE TEMPORARY TABLE numbers (n int, t text)");
            var rows = new StringBuilder();
            for (int n = 0; n < 10000; n++) {
                rows.append(n).append("\tnumber ").append(n).append("\n");
            }
            var copy = conn.unwrap(PGConnection.class).getCopyAPI();
            copy.copyIn("COPY numbers FROM STDIN", new StringReader(rows.toString()));
            var out = new StringWriter();
            copy.copyOut("COPY numbers TO STDOUT", out);
            check(out.toString().equals(rows.toString()), "other rows came out");

            // transactions
            conn.setAutoCommit(false);
            statement.execute("DELETE FROM numbers");
            check(failure(statement, "SELECT 1/0").equals("22012"), "no error");
            conn.rollback();
            check(value(statement, "SELECT count(*) FROM numbers").equals("10000"), "not rolled back");
            conn.commit();

            // cancel
            var ended = new AtomicBoolean();
            var canceller = new Thread(() -> {
                while (!ended.get()) {
                    try {
                        statement.cancel();
                        Thread.sleep(50);
                    } catch (Exception e) {
                        e.printStackTrace();
                        return;
                    }
                }
            });
            canceller.start();
            check(failure(statement, "SELECT pg_sleep(600)").equals("57014"), "not cancelled");
            ended.set(true);
            canceller.join();
            conn.rollback();
            check(value(statement, "SELECT 1").equals("1"), "of no use after the cancel");
        }
        System.out.println("ok");
    }
}
